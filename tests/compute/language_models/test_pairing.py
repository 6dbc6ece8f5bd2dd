"""Other weights under the same name: every task that pairs them with an SAE refuses, until accepted."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from gql_server.artifacts.file_hashes import sha256_of
from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models import model_files
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.worker.context import TaskError
from gql_server.compute.worker.task_runner import TaskRunner
from gql_server.model_files.identity import fingerprint
from gql_server.protocol.results import (
    EvaluationResult,
    GenerateResult,
    IndexResult,
    LanguageModelDescription,
    TopNeuronsResult,
)
from gql_server.protocol.sources import LanguageModelSource, MadeWith, SaeSource
from gql_server.protocol.tasks import (
    AttributeNeurons,
    ContrastNeurons,
    EvaluateSae,
    FindTopNeurons,
    Generate,
    ImportSae,
    IndexNeurons,
    LoadLanguageModel,
    ReadNeuronActivations,
    Task,
)
from gql_server.protocol.wire import LanguageModelChanged, LanguageModelFound
from tests.compute.conftest import RecordingContext, capture_task, interrupted_capture
from tests.compute.sae_fixtures import make_sae, sae_source
from tests.support.generation_tasks import generation_task
from tests.support.tiny_model import make_tiny_model

TEXTS = [f"Text number {n} says {'more ' * n}and ends." for n in range(6)]
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def source(tiny_model_dir: Path, tmp_path: Path) -> LanguageModelSource:
    """Give a model of the test's own."""
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    return LanguageModelSource("lm_own", "DIRECTORY", str(directory), None, "FLOAT32", str(tmp_path / "copy"))


def save_other_weights(directory: Path, factor: float = 2.0) -> None:
    """Put other weights in the place of a model's, in a file with the same size and times."""
    file = directory / "model.safetensors"
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    weights = load_file(file)
    save_file(weights | {EMBEDDING: weights[EMBEDDING] * factor}, directory / "new", {"format": "pt"})
    assert (directory / "new").stat().st_size == file.stat().st_size
    (directory / "new").replace(file)
    os.utime(file, ns=times)


def overwrite_weights(directory: Path) -> None:
    """Write other weights into the very file that a model's are in."""
    aside = shutil.copytree(directory, directory.parent / "aside")
    save_other_weights(aside)
    with (directory / "model.safetensors").open("r+b") as file:
        file.write((aside / "model.safetensors").read_bytes())


class World:
    """A worker, and an SAE with a run of the model as it was."""

    def __init__(self, source: LanguageModelSource, tmp_path: Path) -> None:
        self.told: list[LanguageModelChanged | LanguageModelFound] = []
        self.tools = TaskRunner(self.told.append, "cpu")
        self.source, self.directory = source, tmp_path
        lm, origin = self.tools.language_models.get_identified(source)
        self.made_with = MadeWith("The SAE 'a'", "2026-01-02 03:04 UTC", origin, [])
        (tmp_path / "sae").mkdir()
        SaeClasses().get("TopKSae").save(make_sae(lm), tmp_path / "sae", 6)
        self.sae = msgspec.structs.replace(sae_source(), directory=str(tmp_path / "sae"))
        self.capture = capture_task(source, tmp_path, TEXTS)
        capture_activations(self.capture, RecordingContext(), self.tools.language_models)

    def now(self) -> LanguageModelProvenance:
        return self.tools.language_models.get_identified(self.source)[1]

    def tasks(self, made_with: MadeWith | None) -> list[Task]:
        lm, sae, capture = self.source, self.sae, self.capture
        return [
            FindTopNeurons(lm, sae, ["True and False"], 3, per_token=False, made_with=made_with),
            ContrastNeurons(lm, sae, ["True and False"], ["for x in range"], 3, made_with=made_with),
            ReadNeuronActivations(lm, sae, ["True and False"], None, [3], 99, made_with=made_with),
            AttributeNeurons(lm, sae, "True and False", None, None, None, 3, 1, 99, made_with=made_with),
            generate_task(lm, sae, made_with),
            EvaluateSae(
                sae=sae,
                language_model=lm,
                dataset_dir=capture.dataset_dir,
                hub_dataset=None,
                dataset_kind="INLINE",
                dataset_description="6 texts",
                dataset_sample_count=6,
                sample_offset=0,
                sample_limit=6,
                trained_max_length=24,
                max_texts=100,
                made_with=made_with,
            ),
            IndexNeurons(
                index_id="idx_a",
                sae=sae,
                run_id="run_a",
                store_dir=capture.store_dir,
                dataset_dir=capture.dataset_dir,
                tokenizer_dir=lm.copy_dir,
                top_texts_per_neuron=2,
                top_texts_path=str(self.directory / "top_texts.json"),
                language_model=lm,
                made_with=made_with,
            ),
        ]


def generate_task(lm: LanguageModelSource, sae: SaeSource | None, made_with: MadeWith | None) -> Generate:
    return generation_task(
        lm, ["True and False"], 3, sae=sae, top_neurons=2 if sae else 0, made_with=made_with
    )


@pytest.fixture
def world(source: LanguageModelSource, tmp_path: Path) -> World:
    return World(source, tmp_path)


def refusal(world: World, task: Task) -> str:
    with pytest.raises(TaskError) as raised:
        world.tools.do(task, RecordingContext())
    assert raised.value.code == "CONFLICT"
    return raised.value.reason


def test_every_task_refuses_other_weights_until_they_are_accepted(world: World) -> None:
    directory = Path(world.source.location)
    before = sha256_of(directory / "model.safetensors")
    save_other_weights(directory)
    after = sha256_of(directory / "model.safetensors")
    for task in world.tasks(world.made_with):
        reason = refusal(world, task)
        assert f"model.safetensors was {before[:12]}, is {after[:12]}" in reason and "The SAE 'a'" in reason
    assert not (world.directory / "sae" / "metadata.json").exists()
    now = fingerprint(world.now())
    assert now is not None
    accepted = msgspec.structs.replace(world.made_with, accepted=[now])
    found, contrasted, read, attributed, generated, evaluated, indexed = (
        world.tools.do(task, RecordingContext()) for task in world.tasks(accepted)
    )
    assert isinstance(found, TopNeuronsResult) and isinstance(generated, GenerateResult) and contrasted
    assert read and attributed
    # What is then made says what it was computed with.
    assert isinstance(evaluated, EvaluationResult) and evaluated.language_model == world.now()
    assert isinstance(indexed, IndexResult) and indexed.provenance is not None
    assert indexed.provenance.language_model == world.now()
    assert indexed.provenance.run is not None
    assert indexed.provenance.run.language_model == world.made_with.language_model


def test_what_does_not_say_what_it_was_made_with_is_not_refused(world: World) -> None:
    save_other_weights(Path(world.source.location))
    for task in world.tasks(None):
        world.tools.do(task, RecordingContext())


def test_the_files_put_back_are_the_model_that_it_was(world: World) -> None:
    directory = Path(world.source.location)
    shutil.copytree(directory, world.directory / "kept")
    save_other_weights(directory)
    refusal(world, world.tasks(world.made_with)[0])
    shutil.copy(world.directory / "kept" / "model.safetensors", directory / "model.safetensors")
    world.tools.do(world.tasks(world.made_with)[0], RecordingContext())


def test_a_tokenizer_with_other_tokens_is_another_model(world: World) -> None:
    file = Path(world.source.location) / "tokenizer.json"
    file.write_text(file.read_text().replace("<eos>", "<end>"))
    assert "tokenizer.json was" in refusal(world, world.tasks(world.made_with)[0])


def test_files_that_only_look_different_are_not_loaded_again(world: World) -> None:
    lm = world.tools.language_models.get(world.source)
    os.utime(Path(world.source.location) / "model.safetensors", (1, 1))
    assert world.tools.language_models.get(world.source) is lm
    os.utime(Path(world.source.location) / "config.json", (2, 2))
    world.tools.do(world.tasks(world.made_with)[0], RecordingContext())
    assert world.tools.language_models.get(world.source) is lm


def test_a_load_for_whatever_task_tells_what_the_model_is_now(world: World) -> None:
    directory = make_tiny_model(world.directory / "other", n_layers=3, hidden_size=16)
    for file in directory.iterdir():
        shutil.copy(file, Path(world.source.location) / file.name)
    world.told.clear()
    refusal(world, world.tasks(world.made_with)[0])
    (found,) = (one for one in world.told if isinstance(one, LanguageModelFound))
    loaded = world.tools.do(LoadLanguageModel(world.source), RecordingContext())
    assert isinstance(loaded, LanguageModelDescription) and found.description == loaded
    assert loaded.hidden_size == 16 and loaded.origin == world.now()
    assert "llamaforcausallm_model_layers_2" in {layer.name for layer in loaded.layers}
    statuses = [one.status for one in world.told if isinstance(one, LanguageModelChanged)]
    assert statuses[0] == "LOADING" and statuses[-1] == "LOADED"


def test_two_workers_refuse_alike_whichever_loaded_before(world: World) -> None:
    other = TaskRunner(lambda told: None, "cpu")
    task = world.tasks(world.made_with)[0]
    other.do(task, RecordingContext())
    save_other_weights(Path(world.source.location))
    first = refusal(world, task)
    with pytest.raises(TaskError) as raised:
        other.do(task, RecordingContext())
    assert raised.value.reason == first


def test_an_import_notes_the_model_that_it_is_for(world: World, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "sae", tmp_path / "given")
    task = ImportSae(
        sae_id="sae_2",
        name="imported",
        language_model_id=world.source.id,
        layer=world.sae.layer,
        kind="BLOCK",
        depth=0,
        n_inputs=32,
        max_latents=1000,
        format="MI_CROW",
        source="given/sae.pt",
        files={"sae.pt": str(tmp_path / "given" / "sae.pt")},
        roots=[str(tmp_path)],
        sae_dir=str(tmp_path / "imported"),
        language_model=world.source,
    )
    result: Any = world.tools.do(task, RecordingContext())
    assert fingerprint(result.provenance.language_model) == fingerprint(world.now())


class Interfering(RecordingContext):
    """A context during whose first check something happens."""

    def __init__(self, interfere: Callable[[], None]) -> None:
        super().__init__()
        self._interfere: Callable[[], None] | None = interfere

    def on_check(self) -> None:
        """Interfere once."""
        interfere, self._interfere = self._interfere, None
        if interfere is not None:
            interfere()


def test_weights_overwritten_under_a_capture_end_it_and_nothing_of_them_is_stored(
    source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    task = capture_task(source, tmp_path, TEXTS, batch_size=1)
    directory = interrupted_capture(task, language_models, 2)
    before = sorted(path.name for path in directory.glob("batch_*"))
    context = Interfering(lambda: overwrite_weights(Path(source.location)))
    with pytest.raises(TaskError, match="were overwritten while it computed"):
        capture_activations(msgspec.structs.replace(task, attempt=2), context, language_models)
    assert sorted(path.name for path in directory.glob("batch_*")) == before


def test_weights_that_are_replaced_under_a_task_do_not_disturb_it(
    world: World, source: LanguageModelSource
) -> None:
    task = world.tasks(world.made_with)[0]
    expected = world.tools.do(task, RecordingContext())
    context = Interfering(lambda: save_other_weights(Path(source.location)))
    assert world.tools.do(task, context) == expected


def test_weights_overwritten_under_an_evaluation_give_no_figures(world: World) -> None:
    evaluate = world.tasks(world.made_with)[3]
    (world.directory / "sae" / "metadata.json").write_text("{}")
    context = Interfering(lambda: overwrite_weights(Path(world.source.location)))
    with pytest.raises(TaskError, match="were overwritten while it computed"):
        world.tools.do(evaluate, context)
    assert (world.directory / "sae" / "metadata.json").read_text() == "{}"


def test_a_gguf_replaced_under_its_name_is_converted_anew(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[bytes] = []

    def convert(file: Path, directory: Path, dtype: torch.dtype) -> None:
        converted.append(file.read_bytes())
        shutil.copytree(tiny_model_dir, directory, dirs_exist_ok=True)
        if file.read_bytes().endswith(b"2"):
            save_other_weights(directory)

    monkeypatch.setattr(model_files, "_convert", convert)
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF 1")
    source = LanguageModelSource("lm_gguf", "GGUF", str(file), None, "FLOAT32", str(tmp_path / "copy"))
    one, other = LanguageModels(device="cpu"), LanguageModels(device="cpu")
    before = one.get(source).model.get_input_embeddings().weight.clone()
    other.get(source)
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"GGUF 2")
    os.utime(file, ns=times)
    for worker in (one, other):
        lm, origin = worker.get_identified(source)
        assert torch.equal(lm.model.get_input_embeddings().weight, before * 2)
        assert [found.sha256 for found in origin.files] == [sha256_of(file)]
    os.utime(file, (0, 0))
    one.get(source)
    assert converted == [b"GGUF 1", b"GGUF 2"]
    # A copy goes on being of use without the file that it was made from.
    file.unlink()
    assert LanguageModels(device="cpu").get_identified(source)[1].files == origin.files


def test_a_branch_that_has_moved_is_another_model(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--owner--name"
    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(tiny_model_dir, repository / "snapshots" / commit)
    save_other_weights(repository / "snapshots" / ("b" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    source = LanguageModelSource(
        "lm_hub", "HUGGING_FACE", "owner/name", None, "FLOAT32", str(tmp_path / "copy")
    )
    world = World(source, tmp_path)
    assert world.now().revision == "a" * 40
    (repository / "refs" / "main").write_text("b" * 40)
    for task in world.tasks(world.made_with):
        assert f"commit was {'a' * 12}, is {'b' * 12}" in refusal(world, task)
