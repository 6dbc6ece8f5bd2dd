"""Exports: whole or not at all, the same whenever the SAE is, and only of classes that can be written."""

import json
import zipfile
from pathlib import Path

import msgspec
import pytest

from gql_server.compute.formats.sae_export import export_sae
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Progress
from gql_server.protocol.sources import SaeSource
from gql_server.protocol.tasks import ExportSae
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.saelens.cases import METADATA, N_INPUTS, N_LATENTS, export, make


def task(path: Path) -> ExportSae:
    source = SaeSource("sae_1", "TopKSae", "/nowhere", "layer", N_INPUTS, N_LATENTS, 5)
    return ExportSae(source, "SAE_LENS", str(path), dict(METADATA))


def test_the_same_sae_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export("JumpReLUSae", tmp_path / name / "sae_lens.zip")
    first, second = ((tmp_path / name / "sae_lens.zip").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("hook", "reshaped"),
    [("blocks.1.attn.hook_z", "hook_z"), ("blocks.1.hook_attn_out", "none"), (None, "none")],
)
def test_of_attention_heads_it_is_said_that_they_are_put_side_by_side(
    hook: str | None, reshaped: str, tmp_path: Path, recording_context: RecordingContext
) -> None:
    asked = msgspec.structs.replace(task(tmp_path / "a.zip"), metadata=dict(METADATA) | {"hook_name": hook})
    export_sae(asked, recording_context, make("TopKSae"))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert json.loads(archive.read("cfg.json"))["reshape_activations"] == reshaped


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_what_an_imported_sae_brought_of_its_texts_is_written_again(
    tmp_path: Path, recording_context: RecordingContext, prepend_bos: bool
) -> None:
    """sae-lens' ActivationsStore reads texts as these say, and refuses a file without prepend_bos."""
    brought = {"prepend_bos": prepend_bos, "context_size": 77, "model_name": "another"}
    (tmp_path / "metadata.json").write_text(json.dumps({"source": {"metadata": brought}}))
    path = tmp_path / "exports" / "sae_lens.zip"
    here = dict(METADATA) | {"prepend_bos": not prepend_bos, "context_size": 5, "model_name": "tiny"}
    asked = task(path)
    source = msgspec.structs.replace(asked.sae, directory=str(tmp_path))
    export_sae(msgspec.structs.replace(asked, sae=source, metadata=here), recording_context, make("TopKSae"))
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("cfg.json"))["metadata"]
    assert (metadata["prepend_bos"], metadata["context_size"]) == (prepend_bos, 77)
    assert metadata["model_name"] == "tiny"


def test_progress_counts_the_bytes_that_are_packed(
    tmp_path: Path, recording_context: RecordingContext
) -> None:
    path = tmp_path / "sae_lens.zip"
    result = export_sae(task(path), recording_context, make("TopKSae"))
    assert result.byte_size == path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    progress = [event for event in recording_context.events if isinstance(event, Progress)]
    assert progress[0] == Progress(0, total) and progress[-1] == Progress(total, total)


def test_a_cancellation_leaves_the_export_before_and_nothing_else(
    tmp_path: Path, recording_context: RecordingContext
) -> None:
    def cancel() -> None:
        raise CancelRequested

    path = tmp_path / "exports" / "sae_lens.zip"
    export("TopKSae", path)
    before = path.read_bytes()
    recording_context.on_check = cancel  # type: ignore[method-assign]
    with pytest.raises(CancelRequested):
        export_sae(task(path), recording_context, make("L1Sae"))
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_what_a_killed_attempt_has_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".partial-directory").mkdir()
    (tmp_path / ".partial-file").write_bytes(b"x")
    export("TopKSae", tmp_path / "sae_lens.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["sae_lens.zip"]


def test_a_class_that_computes_in_its_own_way_is_refused(
    tmp_path: Path, recording_context: RecordingContext
) -> None:
    path = tmp_path / "exports" / "sae_lens.zip"
    with pytest.raises(TaskError, match="What DummySae computes cannot be written"):
        export_sae(task(path), recording_context, DummySae(n_latents=N_LATENTS, n_inputs=N_INPUTS))
    assert not path.parent.exists()


def test_an_export_leaves_the_sae_that_others_use_as_it_is(
    tmp_path: Path, recording_context: RecordingContext
) -> None:
    sae = make("TopKSae")
    before = {name: tensor.clone() for name, tensor in sae.sae_engine.state_dict().items()}
    export_sae(task(tmp_path / "sae_lens.zip"), recording_context, sae)
    after = sae.sae_engine.state_dict()
    assert all(bool((after[name] == tensor).all()) for name, tensor in before.items())
    assert not sae.sae_engine.training
