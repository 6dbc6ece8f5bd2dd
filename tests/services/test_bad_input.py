"""Bad input: a typed refusal that names the field, before any job starts, with nothing written."""

import asyncio
import dataclasses
import math
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gql_server import ids
from gql_server.artifacts.datasets import TextDataset
from gql_server.errors import Conflict, NotFound, QueueFull
from gql_server.jobs.executor import TaskRun, WorkerLost
from gql_server.protocol.results import CapturedLayer, CaptureResult
from gql_server.protocol.tasks import CaptureActivations, Task
from gql_server.services import (
    activation_runs,
    artifacts,
    concept_configs,
    concepts,
    contrast,
    dataset_staging,
    evaluations,
    generation,
    jobs,
    language_models,
    launching,
    names,
    neuron_indexes,
    saes,
    text_taking,
    top_neurons,
)
from gql_server.services.app_context import AppContext
from gql_server.services.requests import (
    AddLanguageModelRequest,
    CaptureRequest,
    DatasetRequest,
    EditRequest,
    EvaluateRequest,
    GenerateRequest,
    IndexRequest,
    LoadLanguageModelRequest,
    SaveConceptConfigRequest,
    SetConceptRequest,
    SteeringRequest,
    TrainRequest,
)
from gql_server.services.startup import remove_partial_files
from models import ConceptConfig, Job, LanguageModel, Sae
from models.enums import (
    ArtifactStatus,
    DatasetKind,
    FloatType,
    JobKind,
    JobStatus,
    LanguageModelSourceKind,
    LongTexts,
)
from tests.api.asking import ask
from tests.support.artifact_files import write_tokenizer
from tests.support.fake_executor import FakeExecutor
from tests.support.job_logs import ended
from tests.support.refusals import problem_paths, refused
from tests.support.serving import LAYERS, add_language_model, add_run, add_sae, serving

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@asynccontextmanager
async def prepared(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[AppContext, Sae]]:
    """Give a server with a tiny language model, a run and an SAE of 32 neurons."""
    async with serving(tmp_path / "artifacts", FakeExecutor(), **settings) as server:
        lm = await add_language_model(server)
        yield server, await add_sae(server, await add_run(server, lm))


OTHER = b"other\n1\n"
"""A CSV file without a column of texts."""
CAPTURE = CaptureRequest(
    "",
    ["m_layers_1"],
    DatasetRequest(DatasetKind.INLINE, texts=["a"]),
    None,
    0,
    None,
    2,
    16,
    FloatType.FLOAT32,
    None,
)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"layers": []}, ["layers"]),
        ({"layers": ["m_layers_7"]}, ["layers", "0"]),
        ({"layers": ["m_layers_1", "m_layers_1"]}, ["layers", "1"]),
        ({"dataset": DatasetRequest(DatasetKind.INLINE, texts=[])}, ["dataset", "texts"]),
        ({"dataset": DatasetRequest(DatasetKind.INLINE, texts=["x" * 100_001])}, ["dataset", "texts", "0"]),
        ({"dataset": DatasetRequest(DatasetKind.FILE, path="../secret.txt")}, ["dataset", "file", "path"]),
        ({"dataset": DatasetRequest(DatasetKind.FILE, path="/etc/passwd")}, ["dataset", "file", "path"]),
        ({"dataset": DatasetRequest(DatasetKind.FILE, path="x" * 300)}, ["dataset", "file", "path"]),
        ({"dataset": DatasetRequest(DatasetKind.FILE, path="x/" * 3000)}, ["dataset", "file", "path"]),
        (
            {"dataset": DatasetRequest(DatasetKind.HUGGING_FACE, repository="/etc")},
            ["dataset", "huggingFace", "repository"],
        ),
        (
            {"dataset": DatasetRequest(DatasetKind.HUGGING_FACE, repository="../up")},
            ["dataset", "huggingFace", "repository"],
        ),
        ({"name": "\u200b\u202e"}, ["name"]),
        ({"name": "red \x1b[31m"}, ["name"]),
        ({"name": "one\ntwo"}, ["name"]),
        (
            {
                "dataset": DatasetRequest(
                    DatasetKind.UPLOAD, file_name="a.csv", content=BytesIO(b"other\n1\n")
                )
            },
            ["dataset", "upload"],
        ),
        ({"sample_offset": 1}, ["sampleOffset"]),
        ({"sample_offset": -1}, ["sampleOffset"]),
        ({"sample_limit": 0}, ["sampleLimit"]),
        ({"batch_size": 0}, ["batchSize"]),
        ({"batch_size": -4}, ["batchSize"]),
        ({"batch_size": 1_000_000}, ["batchSize"]),
        ({"max_length": 0}, ["maxLength"]),
        ({"max_length": 65}, ["maxLength"]),  # The model takes 64.
        ({"name": "  "}, ["name"]),
        ({"idempotency_key": ""}, ["idempotencyKey"]),
    ],
)
async def test_a_capture_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, Any], path: list[str]
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    allowed = tmp_path / "datasets"
    allowed.mkdir()
    async with prepared(tmp_path, dataset_dirs=(allowed,)) as (server, sae):
        request = dataclasses.replace(CAPTURE, language_model_id=sae.language_model_id, **change)
        refusal = await refused(server, lambda: activation_runs.capture(server, request))
    assert path in problem_paths(refusal)


BAD_ROWS = b'{"text": "one"}\n{"text": null}\n{"text": "three"}\n'


async def test_a_file_with_bad_rows_is_refused_or_taken_without_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(BAD_ROWS)
    kinds = {
        "upload": DatasetRequest(DatasetKind.UPLOAD, file_name="a.jsonl", content=BytesIO(BAD_ROWS)),
        "file": DatasetRequest(DatasetKind.FILE, path="a.jsonl"),
    }
    async with prepared(tmp_path, dataset_dirs=(tmp_path,)) as (server, sae):
        capture = dataclasses.replace(CAPTURE, language_model_id=sae.language_model_id)
        evaluation = EvaluateRequest(sae.id, capture.dataset, 0, 10, None)
        for kind, dataset in kinds.items():
            bad_capture = dataclasses.replace(capture, dataset=dataset)
            bad_evaluation = dataclasses.replace(evaluation, dataset=dataset)
            for call in (
                partial(activation_runs.capture, server, bad_capture),
                partial(evaluations.evaluate, server, bad_evaluation),
            ):
                refusal = await refused(server, call)
                assert problem_paths(refusal) == [["dataset", kind]]
                assert "line 2 has null in 'text' instead of a string" in refusal.message
            skipping = dataclasses.replace(dataset, skip_bad_rows=True)
            launched = await activation_runs.capture(server, dataclasses.replace(capture, dataset=skipping))
            kept = TextDataset(artifacts.dataset_directory(server.settings, launched.job.artifact_id))
            assert (list(kept), kept.skipped.count) == (["one", "three"], 1)
            launched = await evaluations.evaluate(server, dataclasses.replace(evaluation, dataset=skipping))
            kept = TextDataset(artifacts.dataset_directory(server.settings, launched.job.id))
            assert (list(kept), kept.skipped.count) == (["one", "three"], 1)
            nothing = dataclasses.replace(skipping, text_field="body")
            request = dataclasses.replace(capture, dataset=nothing)
            refusal = await refused(server, partial(activation_runs.capture, server, request))
            assert "3 bad rows were left out: line 1 has no 'body'" in refusal.message


async def test_the_task_is_told_what_to_do_with_long_texts_and_the_run_shows_what_came_of_it(
    tmp_path: Path,
) -> None:
    def succeed(task: Task, run: TaskRun) -> None:
        assert isinstance(task, CaptureActivations) and task.long_texts == "SPLIT"
        layers = [CapturedLayer("m_layers_1", 8)]
        run.finish(CaptureResult(layers, 1, 1, 1, 5, 4096, piece_count=3, truncated_text_count=0))

    async with serving(tmp_path, FakeExecutor(succeed)) as server:
        lm = await add_language_model(server)
        request = dataclasses.replace(CAPTURE, language_model_id=lm.id, long_texts=LongTexts.SPLIT)
        job = await ended(server, (await activation_runs.capture(server, request)).job.id)
        document = """query($id: ID!) { activationRun(id: $id) {
            longTexts pieceCount truncatedTextCount sampleCount } }"""
        data = await ask(server, document, id=job.artifact_id)
        old = await add_run(server, lm)
        before = await ask(server, document, id=old.id)
    shown = {"longTexts": "SPLIT", "pieceCount": 3, "truncatedTextCount": 0, "sampleCount": 1}
    assert data["activationRun"] == shown
    unknown = {"longTexts": "TRUNCATE", "pieceCount": None, "truncatedTextCount": None}
    assert before["activationRun"] | unknown == before["activationRun"]


async def test_a_link_out_of_the_dataset_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    allowed = tmp_path / "datasets"
    allowed.mkdir()
    (allowed / "link.txt").symlink_to(tmp_path / "secret.txt")
    (allowed / "circle.txt").symlink_to(allowed / "circle.txt")
    async with prepared(tmp_path, dataset_dirs=(allowed,)) as (server, sae):
        for name in ("link.txt", "circle.txt"):
            dataset = DatasetRequest(DatasetKind.FILE, path=name)
            request = dataclasses.replace(CAPTURE, language_model_id=sae.language_model_id, dataset=dataset)
            refusal = await refused(server, lambda request=request: activation_runs.capture(server, request))  # type: ignore[misc]
            assert problem_paths(refusal) == [["dataset", "file", "path"]]


async def test_texts_without_tokens_are_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    async with prepared(tmp_path) as (server, sae):
        write_tokenizer(server, sae.language_model_id, tiny_model_dir)
        dataset = DatasetRequest(DatasetKind.INLINE, texts=["", "<eos>"])
        request = dataclasses.replace(CAPTURE, language_model_id=sae.language_model_id, dataset=dataset)
        refusal = await refused(server, lambda: activation_runs.capture(server, request))
    assert problem_paths(refusal) == [["dataset"]]


async def test_a_model_that_was_never_loaded_cannot_be_captured_yet(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, _):
        lm = await add_language_model(server, "fresh", layers=None)
        request = dataclasses.replace(CAPTURE, language_model_id=lm.id)
        refusal = await refused(server, lambda: activation_runs.capture(server, request))
    assert isinstance(refusal, Conflict) and "loadLanguageModel" in refusal.message


TRAIN = TrainRequest("", None, None, "TopKSae", None, 4, 1, 100, None, None, 0, None, False, None)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"layer": "m_layers_0"}, ["layer"]),
        ({"sae_class": "os.system"}, ["saeClass"]),
        ({"k": None}, ["k"]),
        ({"k": 0}, ["k"]),
        ({"k": 65}, ["k"]),  # 64 neurons, 8 times the width, if latentCount is left out.
        ({"k": 9, "latent_count": 8}, ["k"]),
        ({"sae_class": "L1Sae"}, ["k"]),
        ({"latent_count": 0}, ["latentCount"]),
        ({"latent_count": -1}, ["latentCount"]),
        ({"latent_count": 10**9}, ["latentCount"]),
        ({"epochs": 0}, ["epochs"]),
        ({"epochs": 10**6}, ["epochs"]),
        ({"batch_size": 0}, ["batchSize"]),
        ({"batch_size": 501}, ["batchSize"]),  # The run has 500 tokens.
        ({"learning_rate": 0.0}, ["learningRate"]),
        ({"learning_rate": -1e-3}, ["learningRate"]),
        ({"learning_rate": math.nan}, ["learningRate"]),
        ({"learning_rate": math.inf}, ["learningRate"]),
        ({"l1_lambda": -1.0}, ["l1Lambda"]),
        ({"seed": -1}, ["seed"]),
        ({"device": "cuda:7"}, ["device"]),
        ({"group_fractions": [0.5, 0.5]}, ["groupFractions"]),  # It is a TopKSae.
        *(
            ({"sae_class": "BatchTopKSae", "group_fractions": fractions}, ["groupFractions"])
            for fractions in (
                [],
                [1.0],
                [0.5, 0.4],
                [0.5, 0.6],
                [1.5, -0.5],
                [0.0, 1.0],
                [math.nan, 0.5],
                [math.inf, 0.5],
                [1 / 17] * 17,
                [1e-9, 1 - 1e-9],
            )
        ),
    ],
)
async def test_a_training_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, Any], path: list[str]
) -> None:
    async with prepared(tmp_path) as (server, sae):
        assert sae.activation_run_id is not None
        request = dataclasses.replace(TRAIN, activation_run_id=sae.activation_run_id, **change)
        refusal = await refused(server, lambda: saes.train(server, request))
    assert problem_paths(refusal) == [path]


@pytest.mark.parametrize("status", [s for s in ArtifactStatus if s != ArtifactStatus.READY])
async def test_a_run_that_is_not_ready_cannot_be_trained_on(tmp_path: Path, status: ArtifactStatus) -> None:
    async with prepared(tmp_path) as (server, _):
        lm = await add_language_model(server, "another")
        run = await add_run(server, lm, status=status, token_count=0)
        request = dataclasses.replace(TRAIN, activation_run_id=run.id)
        refusal = await refused(server, lambda: saes.train(server, request))
    assert isinstance(refusal, Conflict) and refusal.id == run.id


async def test_what_an_interrupted_capture_has_stored_can_be_trained_on(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, _):
        lm = await add_language_model(server, "another")
        run = await add_run(server, lm, status=ArtifactStatus.PARTIAL)
        launched = await saes.train(server, dataclasses.replace(TRAIN, activation_run_id=run.id))
    assert launched.job.status == JobStatus.QUEUED


async def test_what_will_not_fit_on_the_disk_is_refused(tmp_path: Path) -> None:
    async with prepared(tmp_path, max_artifact_bytes=2_000_000) as (server, sae):
        assert sae.activation_run_id is not None
        request = dataclasses.replace(TRAIN, activation_run_id=sae.activation_run_id, latent_count=20_000)
        refusal = await refused(server, lambda: saes.train(server, request))
        await saes.train(server, dataclasses.replace(request, latent_count=64))
    assert problem_paths(refusal) == [["latentCount"]]
    assert "would take about 5.1 MB, and there is room for 1." in refusal.message


@pytest.mark.parametrize(
    ("layers", "fits"),
    [(["m_layers_1"], True), (["m_heads.input"], False), (["m_layers_1", "m_layers_0"], False)],
)
async def test_a_capture_takes_as_much_as_its_layers_are_wide(
    layers: list[str], fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a language model that an older server has loaded, blocks are as wide as its residual stream."""
    take: Any = text_taking.take

    def counted(*args: Any) -> Any:
        return dataclasses.replace(take(*args), n_tokens=40_000)

    monkeypatch.setattr(dataset_staging, "take", counted)
    heads = {"name": "m_heads.input", "kind": "INPUT", "depth": 1, "module_class": "Linear", "width": 24}
    async with prepared(tmp_path, max_artifact_bytes=2_000_000) as (server, _):
        lm = await add_language_model(server, "wide", hidden_size=8, layers=[*LAYERS, heads])
        request = dataclasses.replace(CAPTURE, language_model_id=lm.id, layers=layers)
        if fits:
            await activation_runs.capture(server, request)
            return
        refusal = await refused(server, lambda: activation_runs.capture(server, request))
    assert problem_paths(refusal) == [["dataset"]] and "The activations would take" in refusal.message


async def test_an_index_needs_a_run_of_the_same_model_with_the_layer(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae):
        lm = await add_language_model(server, "another")
        foreign = await add_run(server, lm)
        shallow = await add_run(
            server,
            await _model(server, sae.language_model_id),
            layers=[{"name": "m_layers_0", "hidden_size": 8}],
        )
        first = await refused(
            server, lambda: neuron_indexes.index(server, IndexRequest(sae.id, foreign.id, 10, None))
        )
        second = await refused(
            server, lambda: neuron_indexes.index(server, IndexRequest(sae.id, shallow.id, 10, None))
        )
        third = await refused(
            server, lambda: neuron_indexes.index(server, IndexRequest(sae.id, None, 0, None))
        )
    assert isinstance(first, Conflict) and first.id == foreign.id
    assert problem_paths(second) == [["activationRunId"]]
    assert problem_paths(third) == [["topTextsPerNeuron"]]


async def _model(server: AppContext, id: str) -> LanguageModel:
    async with server.database.read() as session:
        return await session.get_one(LanguageModel, id)


@pytest.mark.parametrize(
    ("edits", "path"),
    [
        ([EditRequest(32, 2, 0)], ["edits", "0", "neuronIndex"]),
        ([EditRequest(-1, 2, 0)], ["edits", "0", "neuronIndex"]),
        ([EditRequest(1, 2, 0), EditRequest(1, 3, 0)], ["edits", "1", "neuronIndex"]),
        ([EditRequest(1, math.nan, 0)], ["edits", "0", "multiplier"]),
        ([EditRequest(1, 1e300, 0)], ["edits", "0", "multiplier"]),
        ([EditRequest(1, 1, -1e39)], ["edits", "0", "bias"]),
        ([EditRequest(1, 2, math.inf)], ["edits", "0", "bias"]),
    ],
)
async def test_edits_that_cannot_be_right_are_refused_by_configs_and_by_generation(
    tmp_path: Path, edits: list[EditRequest], path: list[str]
) -> None:
    async with prepared(tmp_path) as (server, sae):
        config = SaveConceptConfigRequest(None, sae.id, "c", edits, None, False)
        saved = await refused(server, lambda: concept_configs.save(server, config))
        steering = SteeringRequest(None, edits, "ERROR_PRESERVING")
        request = dataclasses.replace(GENERATE, sae_id=sae.id, steering=steering)
        generated = await refused(server, lambda: generation.generate(server, request))
    assert problem_paths(saved) == [path]
    assert problem_paths(generated) == [["steering", "source", *path]]


async def test_a_refused_edit_leaves_the_saved_config_and_its_file_as_they_were(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae):
        good = SaveConceptConfigRequest(
            None, sae.id, "c", [EditRequest(3, 2, 0), EditRequest(1, 1, 0)], None, False
        )
        config, edits, _ = await concept_configs.save(server, good)
        assert config is not None
        assert edits == [EditRequest(3, 2, 0)]  # The one without effect is left out.
        file = server.settings.artifact_dir / config.path
        before = file.read_bytes()
        bad = dataclasses.replace(good, id=config.id, edits=[EditRequest(99, 2, 0)])
        await refused(server, lambda: concept_configs.save(server, bad))
        stale = dataclasses.replace(good, id=config.id, edits=[], expected_version=7)
        conflict = await refused(server, lambda: concept_configs.save(server, stale))
        async with server.database.read() as session:
            row = await session.get_one(ConceptConfig, config.id)
        assert file.read_bytes() == before
    assert isinstance(conflict, Conflict) and conflict.code == "VERSION_MISMATCH"
    assert (row.version, row.edits) == (1, [{"neuron_index": 3, "multiplier": 2, "bias": 0}])


GENERATE = GenerateRequest(
    None, None, ["hello"], False, 4, 0.0, None, None, None, None, None, None, False, 0, 5, False
)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"prompts": []}, ["prompts"]),
        ({"prompts": ["a", " "]}, ["prompts", "1"]),
        ({"max_new_tokens": 0}, ["maxNewTokens"]),
        ({"max_new_tokens": 10**6}, ["maxNewTokens"]),
        ({"temperature": -1.0}, ["temperature"]),
        ({"temperature": math.nan}, ["temperature"]),
        ({"temperature": 1e-40}, ["temperature"]),
        ({"top_p": 0.0}, ["topP"]),
        ({"top_k": 0}, ["topK"]),
        ({"repetition_penalty": 0.0}, ["repetitionPenalty"]),
        ({"repetition_penalty": 1e-300}, ["repetitionPenalty"]),
        ({"stop": [""]}, ["stop", "0"]),
        ({"top_log_probabilities": 21}, ["topLogProbabilities"]),
        ({"compare_to_baseline": True}, ["compareToBaseline"]),
        ({"watch_neurons": list(range(21))}, ["watchNeurons"]),
        ({"watch_neurons": [3, 5, 3]}, ["watchNeurons"]),
        ({"watch_neurons": [3, 32]}, ["watchNeurons", "1"]),
        ({"watch_neurons": [-1]}, ["watchNeurons", "0"]),
    ],
)
async def test_a_generation_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, Any], path: list[str]
) -> None:
    async with prepared(tmp_path) as (server, sae):
        request = dataclasses.replace(GENERATE, sae_id=sae.id, **change)
        refusal = await refused(server, lambda: generation.generate(server, request))
    assert problem_paths(refusal) == [path]


async def test_an_sae_is_not_steered_on_another_model(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae):
        lm = await add_language_model(server, "another")
        request = dataclasses.replace(GENERATE, sae_id=sae.id, language_model_id=lm.id)
        refusal = await refused(server, lambda: generation.generate(server, request))
        nothing = await refused(server, lambda: generation.generate(server, GENERATE))
    assert isinstance(refusal, Conflict) and refusal.id == sae.id
    assert problem_paths(nothing) == [["languageModelId"]]


async def test_top_neurons_of_nothing_are_refused(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae):
        empty = await refused(server, lambda: top_neurons.find(server, sae.id, [""], 5, False))
        many = await refused(server, lambda: top_neurons.find(server, sae.id, ["a"], 101, False))
    assert problem_paths(empty) == [["prompts", "0"]]
    assert problem_paths(many) == [["first"]]


@pytest.mark.parametrize(
    ("texts_a", "texts_b", "first", "path"),
    [
        ([], ["a"], 5, ["textsA"]),
        (["a"], [], 5, ["textsB"]),
        (["a"], ["b", " "], 5, ["textsB", "1"]),
        (["a" * 11], ["b"], 5, ["textsA", "0"]),
        (["a"] * 3, ["b"], 5, ["textsA"]),
        (["a", "a"], ["b", "b"], 5, ["textsB"]),
        (["a"], ["b"], 0, ["first"]),
        (["a"], ["b"], 101, ["first"]),
    ],
)
async def test_texts_that_cannot_be_contrasted_are_refused(
    tmp_path: Path, texts_a: list[str], texts_b: list[str], first: int, path: list[str]
) -> None:
    async with prepared(tmp_path, max_prompts=3 if texts_b[1:] else 2, max_text_characters=10) as (
        server,
        sae,
    ):
        refusal = await refused(server, lambda: contrast.find(server, sae.id, texts_a, texts_b, first))
    assert problem_paths(refusal) == [path]


@pytest.mark.parametrize(
    ("n_a", "n_b", "sentence"),
    [
        (4, 1, "There are 4 prompts; the limit is 3 in both sets together."),
        (1, 4, "There are 4 prompts; the limit is 3 in both sets together."),
        (2, 2, "There are 4 texts; the limit is 3 in both sets together."),
    ],
)
async def test_too_many_texts_are_told_that_the_limit_is_for_both_sets(
    tmp_path: Path, n_a: int, n_b: int, sentence: str
) -> None:
    async with prepared(tmp_path, max_prompts=3) as (server, sae):
        refusal = await refused(server, lambda: contrast.find(server, sae.id, ["a"] * n_a, ["b"] * n_b, 5))
    assert sentence in refusal.message


async def test_sets_of_texts_with_too_many_tokens_in_all_are_refused(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    async with prepared(tmp_path, max_request_tokens=12) as (server, sae):
        write_tokenizer(server, sae.language_model_id, tiny_model_dir)
        texts = ["hello", "hello"]
        refusal = await refused(server, lambda: contrast.find(server, sae.id, texts, texts, 5))
    assert problem_paths(refusal) == [["textsA"]]
    assert "the limit is 12" in refusal.message


async def test_more_edits_than_may_be_are_refused_wherever_they_are_given(tmp_path: Path) -> None:
    edits = [EditRequest(number, 2.0, 0.0) for number in range(4)]
    async with prepared(tmp_path, max_edits=3) as (server, sae):
        steering = SteeringRequest(None, edits, "RECONSTRUCTION")
        request = dataclasses.replace(GENERATE, sae_id=sae.id, steering=steering)
        generated = await refused(server, lambda: generation.generate(server, request))
        config = SaveConceptConfigRequest(None, sae.id, "many", edits, None, False)
        saved = await refused(server, lambda: concept_configs.save(server, config))
    assert problem_paths(generated) == [["steering", "source", "edits"]]
    assert problem_paths(saved) == [["edits"]]


async def test_a_request_with_too_many_tokens_in_all_is_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    from tokenizers import Tokenizer

    count = len(Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json")).encode("hello").ids)
    # Two prompts of 4 new tokens each fit, and not one token more.
    async with prepared(tmp_path, max_request_tokens=2 * count + 8) as (server, sae):
        write_tokenizer(server, sae.language_model_id, tiny_model_dir)
        prompts = ["hello"] * 2
        request = dataclasses.replace(GENERATE, sae_id=sae.id, prompts=prompts, max_new_tokens=5)
        generated = await refused(server, lambda: generation.generate(server, request))
        looked_at = await refused(server, lambda: top_neurons.find(server, sae.id, ["hello"] * 20, 5, False))
        steered = dataclasses.replace(
            request,
            max_new_tokens=4,
            compare_to_baseline=True,
            steering=SteeringRequest(None, [], "RECONSTRUCTION"),
        )
        compared = await refused(server, lambda: generation.generate(server, steered))
    for refusal, tokens in (
        (generated, 2 * count + 10),
        (looked_at, 20 * count),
        (compared, 2 * count + 16),
    ):
        assert problem_paths(refusal) == [["prompts"]]
        assert f" {tokens} tokens" in refusal.message


@pytest.mark.parametrize("id", ["", "nonsense", f"sae_{UNKNOWN}", f"run_{UNKNOWN}", "../../etc"])
async def test_an_unknown_or_malformed_id_is_not_found_by_any_mutation(tmp_path: Path, id: str) -> None:
    async with prepared(tmp_path) as (server, _):
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: activation_runs.capture(server, dataclasses.replace(CAPTURE, language_model_id=id)),
            lambda: activation_runs.delete(server, id),
            lambda: saes.train(server, dataclasses.replace(TRAIN, activation_run_id=id)),
            lambda: saes.delete(server, id),
            lambda: neuron_indexes.index(server, IndexRequest(id, None, 10, None)),
            lambda: evaluations.evaluate(server, EvaluateRequest(id, CAPTURE.dataset, 0, 1, None)),
            lambda: language_models.load(server, LoadLanguageModelRequest(id)),
            lambda: language_models.unload(server, id),
            lambda: language_models.delete(server, id),
            lambda: jobs.cancel(server, id),
            lambda: jobs.retry(server, id),
            lambda: names.rename(server, id, "name"),
            lambda: concepts.set_concept(server, SetConceptRequest(id, 0, "a", None, None, None)),
            lambda: concepts.delete(server, id),
            lambda: concept_configs.save(server, SaveConceptConfigRequest(None, id, "c", [], None, False)),
            lambda: concept_configs.delete(server, id),
            lambda: generation.generate(server, dataclasses.replace(GENERATE, sae_id=id)),
            lambda: top_neurons.find(server, id, ["a"], 5, False),
            lambda: contrast.find(server, id, ["a"], ["b"], 5),
        ]
        for call in calls:
            refusal = await refused(server, call)
            assert isinstance(refusal, NotFound) and refusal.id == id


async def test_model_sources_must_lie_inside_and_be_models(tmp_path: Path, tiny_model_dir: Path) -> None:
    allowed = tmp_path / "models"
    (allowed / "empty").mkdir(parents=True)
    (allowed / "fake.gguf").write_bytes(b"not a model")
    (allowed / "half").mkdir()
    (allowed / "half" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "outside.gguf").write_bytes(b"GGUF")
    (allowed / "link.gguf").symlink_to(tmp_path / "outside.gguf")
    linked = shutil.copytree(tiny_model_dir, allowed / "linked")
    (linked / "config.json").rename(tmp_path / "config.json")
    (linked / "config.json").symlink_to(tmp_path / "config.json")
    attempts = ["", "none", "../outside.gguf", str(tmp_path / "outside.gguf"), "link.gguf", "a\0b"]
    attempts += ["empty/../../outside.gguf", "empty", "fake.gguf", "half", "linked"]
    async with prepared(tmp_path, model_dirs=(allowed,)) as (server, _):
        for attempt in attempts:
            request = AddLanguageModelRequest("new", None, attempt, None, FloatType.FLOAT32)
            refusal = await refused(server, lambda request=request: language_models.add(server, request))  # type: ignore[misc]
            assert problem_paths(refusal) == [["source", "path"]], attempt
        hub = LanguageModelSourceKind.HUGGING_FACE
        for repository in ["", "a/b/c", "../x", "a b"]:
            request = AddLanguageModelRequest("new", hub, repository, None, FloatType.FLOAT32)
            refusal = await refused(server, lambda request=request: language_models.add(server, request))  # type: ignore[misc]
            assert problem_paths(refusal) == [["source", "huggingFace", "repository"]], repository
        taken = AddLanguageModelRequest("tiny", hub, "gpt2", None, FloatType.FLOAT32)
        conflict = await refused(server, lambda: language_models.add(server, taken))
    assert isinstance(conflict, Conflict)


async def test_a_directory_that_could_never_be_loaded_is_refused_when_it_is_added(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    allowed = tmp_path / "models"
    for name, missing in (("bare", "tokenizer.json"), ("weightless", "model.safetensors")):
        (shutil.copytree(tiny_model_dir, allowed / name) / missing).unlink()
    adapted = shutil.copytree(tiny_model_dir, allowed / "adapted")
    (adapted / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    said = {"bare": "no tokenizer", "weightless": "no weights", "adapted": "a LORA adapter"}
    async with prepared(tmp_path, model_dirs=(allowed,)) as (server, _):
        for name, words in said.items():
            request = AddLanguageModelRequest("new", None, name, None, FloatType.FLOAT32)
            refusal = await refused(server, lambda request=request: language_models.add(server, request))  # type: ignore[misc]
            assert problem_paths(refusal) == [["source", "path"]]
            assert words in refusal.message


async def test_the_job_above_the_limit_finds_the_queue_full(tmp_path: Path) -> None:
    async with prepared(tmp_path, max_queued_jobs=2) as (server, sae):
        request = dataclasses.replace(CAPTURE, language_model_id=sae.language_model_id)
        launched = [await activation_runs.capture(server, request)]
        async for event in jobs.watch(server, launched[0].job.id, 0):
            if event.payload.get("status") == "RUNNING":
                break
        launched += [await activation_runs.capture(server, request) for _ in range(2)]
        refusal = await refused(server, lambda: activation_runs.capture(server, request))
        async with server.database.read() as session:
            assert await session.scalar(select(func.count()).select_from(Job)) == 3
    assert isinstance(refusal, QueueFull) and refusal.retry_after_seconds > 0


async def test_what_is_in_use_cannot_be_deleted_and_the_refusal_names_the_user(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae):
        assert sae.activation_run_id is not None
        run = await refused(server, lambda: activation_runs.delete(server, sae.activation_run_id or ""))
        lm = await refused(server, lambda: language_models.delete(server, sae.language_model_id))
        await saes.delete(server, sae.id)
        await activation_runs.delete(server, sae.activation_run_id)
        await language_models.delete(server, sae.language_model_id)
    assert isinstance(run, Conflict) and run.id == sae.id
    assert isinstance(lm, Conflict) and lm.id == sae.activation_run_id
    assert ids.kind_of(sae.id) == ids.SAE


async def test_an_index_that_failed_keeps_no_run_alive(tmp_path: Path) -> None:
    started: list[TaskRun] = []
    async with serving(tmp_path, FakeExecutor(lambda task, run: started.append(run))) as server:
        lm = await add_language_model(server)
        sae = await add_sae(server, await add_run(server, lm))
        other = await add_run(server, lm)
        job = (await neuron_indexes.index(server, IndexRequest(sae.id, other.id, 10, None))).job
        with pytest.raises(Conflict) as running:
            await activation_runs.delete(server, other.id)
        async for event in jobs.watch(server, job.id, 0):
            if event.payload.get("status") == "RUNNING":
                while not started:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                started[0].finish(WorkerLost("gone"))
        await activation_runs.delete(server, other.id)
    assert running.value.id == job.id


def test_partial_files_of_a_killed_process_are_removed_and_newer_ones_left(tmp_path: Path) -> None:
    old = tmp_path / "store" / "runs" / "run_x" / ".partial-1" / "batch"
    old.mkdir(parents=True)
    (tmp_path / ".partial-2").write_text("half")
    (tmp_path / "whole.json").write_text("{}")
    remove_partial_files(tmp_path, older_than=time.time() - 3600)
    assert old.exists()
    remove_partial_files(tmp_path, older_than=time.time() + 3600)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["run_x", "runs", "store", "whole.json"]


@pytest.mark.parametrize(
    ("content", "before"),
    [
        (None, "9b755a58417ed85852e9fab07da9d87759e198cf74e44a5abcfd0637c3c882d1"),
        (b"a\n1", "d40a05d09325e550ad70673387c1c9335e49dab15d3d01f36d635657e90da4ba"),
    ],
)
def test_a_key_of_an_earlier_version_stands_for_the_same_request(content: bytes | None, before: str) -> None:
    kind = DatasetKind.UPLOAD if content else DatasetKind.BUILT_IN
    file = BytesIO(content) if content else None
    request = dataclasses.replace(CAPTURE, dataset=DatasetRequest(kind, file_name="a.csv", content=file))
    # As a version before stored datasets hashed them.
    assert launching.request_hash(JobKind.CAPTURE_ACTIVATIONS, request) == before


def test_requests_for_two_stored_datasets_are_two() -> None:
    hashes = {
        launching.request_hash(
            JobKind.CAPTURE_ACTIVATIONS,
            dataclasses.replace(CAPTURE, dataset=DatasetRequest(DatasetKind.STORED, dataset_id=id)),
        )
        for id in (None, "ds_1", "ds_2")
    }
    assert len(hashes) == 3
