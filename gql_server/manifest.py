"""What a stored run says of itself, in ``manifest.json`` beside its batches."""

from pathlib import Path

import msgspec

from gql_server.files import write_whole

FORMAT_VERSION = 1


class ManifestLanguageModel(msgspec.Struct, frozen=True):
    """The language model whose activations are stored."""

    id: str
    source_kind: str
    location: str
    revision: str | None
    dtype: str


class ManifestLayer(msgspec.Struct, frozen=True):
    """A stored layer."""

    name: str
    hidden_size: int


class ManifestDataset(msgspec.Struct, frozen=True):
    """The texts; ``sha256`` is over those selected by offset and limit, each after its length in bytes."""

    kind: str
    description: str
    sha256: str
    sample_offset: int
    sample_limit: int | None
    sample_count: int
    """Texts in the whole dataset."""
    directory: str
    """Its name under the artifact directory's datasets."""


class ManifestBatch(msgspec.Struct, frozen=True):
    """A stored batch: ``shape`` is [n_texts, n_positions]; the lists have an entry for each text."""

    index: int
    rows: list[int]
    """The texts' row numbers in the dataset."""
    lengths: list[int]
    """Tokens of each text as captured, special tokens among them; what comes after them is padding."""
    shape: list[int]
    token_count: int
    byte_size: int


class Manifest(msgspec.Struct, frozen=True):
    """A run. Tokens that count are neither padding nor special."""

    format_version: int
    run_id: str
    language_model: ManifestLanguageModel
    layers: list[ManifestLayer]
    dataset: ManifestDataset
    max_length: int
    batch_size: int
    dtype: str
    special_token_ids: list[int]
    sample_count: int
    """Texts that are stored."""
    token_count: int
    byte_size: int
    batches: list[ManifestBatch]
    versions: dict[str, str]
    created_at: str


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest whole."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raises OSError where there is none, msgspec.DecodeError where it is none."""
    return msgspec.json.decode(path.read_bytes(), type=Manifest)
