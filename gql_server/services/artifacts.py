"""Where artifacts lie, and how they go."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from gql_server.artifacts.files import TEMPORARY_PREFIX
from gql_server.protocol.sources import LanguageModelSource, SaeSource
from gql_server.protocol.tasks import SNAPSHOT_FILE
from gql_server.settings import Settings
from gql_server.tokens.options import as_pairs, counts_of
from models import LanguageModel, Sae

STORE = "store"


def store_directory(settings: Settings) -> Path:
    """Return the LocalStore's base; what lies in it has a path under the artifact directory, links or not."""
    return settings.artifact_dir.resolve() / STORE


def run_directory(settings: Settings, run_id: str) -> Path:
    """Return the LocalStore's directory of a run or index."""
    return store_directory(settings) / "runs" / run_id


def dataset_directory(settings: Settings, owner_id: str) -> Path:
    """Return the directory of a run's texts, a stored dataset's, or an evaluation's: its job's."""
    return settings.artifact_dir.resolve() / "datasets" / owner_id


def copy_directory(settings: Settings, language_model_id: str) -> Path:
    """Return the server's own directory for a language model: its tokenizer, perhaps a converted copy."""
    return settings.artifact_dir.resolve() / "models" / language_model_id


def sae_directory(settings: Settings, sae: Sae) -> Path:
    """Return the directory of an SAE's checkpoint, concepts, configs and top texts."""
    return settings.artifact_dir.resolve() / sae.directory


def download_directory(settings: Settings, sae: Sae) -> Path:
    """Return where files of the Hub lie until an import has read them."""
    return sae_directory(settings, sae) / "download"


def snapshot_path(settings: Settings, sae: Sae) -> Path:
    """Return the file that an SAE's training goes on from."""
    return sae_directory(settings, sae) / SNAPSHOT_FILE


def export_path(settings: Settings, sae: Sae, format: str) -> Path:
    """Return the ZIP file of an SAE in the format of another library."""
    return sae_directory(settings, sae) / "exports" / f"{format.lower()}.zip"


def language_model_source(settings: Settings, language_model: LanguageModel) -> LanguageModelSource:
    """Return what a worker needs to load a language model."""
    return LanguageModelSource(
        id=language_model.id,
        kind=language_model.source_kind.value,
        location=language_model.source,
        revision=language_model.revision,
        dtype=language_model.dtype,
        copy_dir=str(copy_directory(settings, language_model.id)),
        add_bos=language_model.add_bos,
        token_counts=as_pairs(counts_of(language_model.token_counts)),
        roots=tuple(str(root.resolve()) for root in settings.model_dirs),
    )


def sae_source(settings: Settings, sae: Sae) -> SaeSource:
    """Return what a worker needs to load a READY SAE."""
    assert sae.sae_class is not None and sae.input_size is not None and sae.latent_count is not None
    return SaeSource(
        id=sae.id,
        sae_class=sae.sae_class,
        directory=str(sae_directory(settings, sae)),
        layer=sae.layer,
        n_inputs=sae.input_size,
        n_latents=sae.latent_count,
        k=sae.k,
        output_layer=sae.output_layer,
    )


def remove(paths: Sequence[Path]) -> None:
    """Remove files and whole directories; what is not there, or goes meanwhile, is fine."""
    for path in paths:
        while path.is_dir() and not path.is_symlink():
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                continue  # Something in it went in between; on with the rest.
        path.unlink(missing_ok=True)


def remove_partial(directory: Path) -> None:
    """Remove what a killed writer has left in a directory, and the directory where that was all it had."""
    remove(list(directory.glob(f"{TEMPORARY_PREFIX}*")))
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
