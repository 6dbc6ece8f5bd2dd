"""Importing and exporting SAEs: what is refused before a job, what jobs leave in the rows, and retries."""

import asyncio
import gzip
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from pydantic import SecretStr
from safetensors.torch import save_file
from sqlalchemy import select

from gql_server import ids
from gql_server.api.sae_sources import SaeSourceFormat
from gql_server.artifacts.provenance import HubSaeProvenance, SaeProvenance
from gql_server.compute.formats.sae_export import export_neurons
from gql_server.errors import Conflict, InvalidInput, NotFound
from gql_server.formats.input_normalizations import INPUT_NORMALIZATIONS
from gql_server.formats.sae_sources.registry import FORMATS
from gql_server.jobs.executor import TaskFailure, TaskRun, WorkerLost, WorkerOutOfMemory
from gql_server.protocol.events import Stage
from gql_server.protocol.results import Done, ExportResult, ImportResult, SaeFit
from gql_server.protocol.sources import HubSae
from gql_server.protocol.tasks import DOWNLOADED_FILE, DownloadSae, ExportSae, ImportSae
from gql_server.protocol.wire import TaskFailed
from gql_server.services import (
    artifacts,
    concept_imports,
    concepts,
    jobs,
    lookup,
    sae_exports,
    sae_imports,
    sae_sources,
    saes,
    startup,
)
from gql_server.services.app_context import AppContext
from gql_server.services.requests import (
    ExportSaeRequest,
    ImportConceptsRequest,
    ImportSaeRequest,
    Launched,
    SetConceptRequest,
)
from gql_server.tokens.options import TokenizerFacts
from models import Concept, Job, LanguageModel, NeuronIndex, Sae
from models.enums import ArtifactStatus, InputNormalization, JobKind, JobStatus, SaeOrigin
from tests.api.asking import ask
from tests.compute.conftest import RecordingContext
from tests.saelens.recorded_files import made
from tests.support.artifact_files import add_neuron_index
from tests.support.fake_executor import FakeExecutor
from tests.support.refusals import refused
from tests.support.serving import LAYERS, add_language_model, add_run, add_sae, client_of, serving

RESULT = ImportResult("ReLUSae", 16, 64, None)


@asynccontextmanager
async def prepared(
    tmp_path: Path, executor: FakeExecutor | None = None, **settings: Any
) -> AsyncIterator[tuple[AppContext, LanguageModel, ImportSaeRequest]]:
    """Give a server with a language model of width 16, and what asks it to import an SAE."""
    models = tmp_path / "models"
    if not models.exists():
        made("standard", models / "theirs")
    chosen = {"model_dirs": (models,)} | settings
    async with serving(tmp_path / "artifacts", executor, **chosen) as server:
        lm = await add_language_model(server, hidden_size=16)
        yield server, lm, ImportSaeRequest(lm.id, "m_layers_1", None, "SAE_LENS", "theirs", None)


async def end_of(server: AppContext, launched: Launched) -> Job:
    """Return a job when it has ended."""
    async for _ in jobs.watch(server, launched.job.id, 0):
        pass
    async with server.database.read() as session:
        return await lookup.get(session, Job, launched.job.id)


async def sae_of(server: AppContext, id: str) -> Sae:
    async with server.database.read() as session:
        return await lookup.get(session, Sae, id)


class Holding(FakeExecutor):
    """An executor whose tasks end when the test says so."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[TaskRun] = asyncio.Queue()
        super().__init__(lambda task, run: self.started.put_nowait(run))


def finishing(result: Any) -> FakeExecutor:
    """Give an executor whose tasks all come to the same end."""
    return FakeExecutor(lambda task, run: run.finish(result))


# --------------------------------------------------------------------------------- imports


async def test_an_import_makes_an_sae_whose_sizes_are_known_when_it_has_been_read(tmp_path: Path) -> None:
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        launched = await sae_imports.import_(server, request)
        sae = await sae_of(server, launched.job.result_id)
        assert (sae.origin, sae.name, sae.layer) == (SaeOrigin.IMPORTED, "theirs on tiny", "m_layers_1")
        assert (sae.sae_class, sae.input_size, sae.latent_count, sae.k) == (None,) * 4
        (await executor.started.get()).finish(RESULT)
        job = await end_of(server, launched)
        assert (job.status, job.kind, job.unit) == ("SUCCEEDED", "IMPORT_SAE", "BYTES")
        assert job.lane == "interactive"
        sae = await sae_of(server, sae.id)
        assert (sae.status, sae.sae_class, sae.input_size, sae.latent_count) == ("READY", "ReLUSae", 16, 64)
        assert sae.checkpoint_path == f"{sae.directory}/sae.pt" and sae.completed_at is not None
        (task,) = [task for _, task in executor.tasks]
        assert isinstance(task, ImportSae)
        assert (task.kind, task.depth, task.n_inputs, task.source) == ("BLOCK", 1, 16, "theirs")
        theirs = (tmp_path / "models" / "theirs").resolve()
        assert task.roots == [str(theirs.parent)]
        assert list(task.files.items()) == [
            (name, str(theirs / name)) for name in ("cfg.json", "sae_weights.safetensors")
        ]


async def test_how_it_normalizes_its_inputs_is_kept_and_shown(tmp_path: Path) -> None:
    query = "query($id: ID!) { sae(id: $id) { inputNormalization } }"
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        launched = await sae_imports.import_(server, request)
        assert (await ask(server, query, id=launched.job.result_id))["sae"] == {"inputNormalization": "NONE"}
        (await executor.started.get()).finish(ImportResult("ReLUSae", 16, 64, None, None, "LAYER_NORM"))
        await end_of(server, launched)
        assert (await ask(server, query, id=launched.job.result_id))["sae"] == {
            "inputNormalization": "LAYER_NORM"
        }
        assert (await sae_of(server, str(launched.job.result_id))).input_normalization == "LAYER_NORM"


def test_the_enum_of_the_tables_has_the_normalizations_that_are_computed() -> None:
    assert tuple(InputNormalization) == INPUT_NORMALIZATIONS


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"layer": "m_layers_9"}, ["layer"]),
        ({"name": " "}, ["name"]),
        ({"path": "nothing"}, ["source", "saeLens"]),
        ({"path": ""}, ["source", "saeLens"]),
        ({"path": "../artifacts"}, ["source", "saeLens"]),
        ({"path": "/etc"}, ["source", "saeLens"]),
        ({"path": "."}, ["source", "saeLens"]),
        ({"path": "x\0"}, ["source", "saeLens"]),
        ({"path": "theirs", "format": "MI_CROW"}, ["source", "miCrow"]),
        ({"path": "nothing", "format": None}, ["source", "path"]),
        ({"path": ".", "format": None}, ["source", "path"]),
        ({"path": "nothing.pt", "format": "MI_CROW"}, ["source", "miCrow"]),
        ({"idempotency_key": ""}, ["idempotencyKey"]),
        ({"input_scale": 0.0}, ["inputScale"]),
        ({"input_scale": -1.0}, ["inputScale"]),
        ({"input_scale": float("inf")}, ["inputScale"]),
        ({"input_scale": float("nan")}, ["inputScale"]),
    ],
)
async def test_what_cannot_be_is_refused_at_its_field(
    change: dict[str, Any], path: list[str], tmp_path: Path
) -> None:
    async with prepared(tmp_path) as (server, _, request):
        refusal = await refused(server, lambda: sae_imports.import_(server, replace(request, **change)))
        assert isinstance(refusal, InvalidInput)
        assert [problem.path for problem in refusal.problems] == [path]


@pytest.mark.parametrize(
    ("cfg", "sentence"),
    [
        ({"architecture": "abstopk"}, "'abstopk' has no counterpart here: standard, topk, jumprelu, gated"),
        ({"normalize_activations": "covariance_whitening"}, "fold the normalization"),
        ({"d_in": 17}, "d_in and d_sae say [17, 64]"),
        ({"d_sae": 65}, "d_in and d_sae say [16, 65]"),
        (None, "is not JSON"),
    ],
)
async def test_a_cfg_json_that_cannot_be_taken_over_is_refused_before_a_job(
    cfg: dict[str, Any] | None, sentence: str, tmp_path: Path
) -> None:
    async with prepared(tmp_path, max_latents=64) as (server, _, request):
        path = tmp_path / "models" / "theirs" / "cfg.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | cfg) if cfg else "{")
        refusal = await refused(server, lambda: sae_imports.import_(server, request))
        assert sentence in refusal.message


async def test_what_does_not_fit_the_layer_or_the_server_is_refused_before_a_job(tmp_path: Path) -> None:
    async with prepared(tmp_path, max_latents=63) as (server, _, request):
        refusal = await refused(server, lambda: sae_imports.import_(server, request))
        assert "64 neurons; this server takes 63" in refusal.message
        narrow = replace(request, language_model_id=(await add_language_model(server, "n", hidden_size=8)).id)
        refusal = await refused(server, lambda: sae_imports.import_(server, narrow))
        assert "width 16; the layer's are 8 wide" in refusal.message


async def test_links_out_of_the_model_directories_are_refused_and_those_inside_followed(
    tmp_path: Path,
) -> None:
    async with prepared(tmp_path, finishing(RESULT)) as (server, _, request):
        models, outside = tmp_path / "models", tmp_path / "outside"
        (models / "linked.pt").symlink_to("/etc/passwd")
        checkpoint = replace(request, path="linked.pt", format="MI_CROW")
        refusal = await refused(server, lambda: sae_imports.import_(server, checkpoint))
        assert "no such directory or file" in refusal.message
        weights = models / "theirs" / "sae_weights.safetensors"
        weights.rename(outside)
        weights.symlink_to(outside)
        refusal = await refused(server, lambda: sae_imports.import_(server, request))
        assert "a link out of this server's model directories" in refusal.message
        outside.rename(models / "blob")
        weights.unlink()
        weights.symlink_to(models / "blob")
        job = await end_of(server, await sae_imports.import_(server, request))
        assert job.request["files"]["sae_weights.safetensors"] == str((models / "blob").resolve())


async def test_a_directory_that_becomes_a_link_after_it_was_looked_at_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prepared(tmp_path) as (server, _, request):
        theirs, outside = tmp_path / "models" / "theirs", tmp_path / "outside"
        look = sae_sources._plain_file

        def look_and_exchange(path: Path) -> Path:
            found = look(path)
            if not theirs.is_symlink():
                theirs.rename(outside)
                (outside / "cfg.json").write_text('{"architecture": "secret"}')
                theirs.symlink_to(outside)
            return found

        monkeypatch.setattr(sae_sources, "_inside", lambda settings, path: path)
        monkeypatch.setattr(sae_sources, "_plain_file", look_and_exchange)
        refusal = await refused(server, lambda: sae_imports.import_(server, request))
        assert "The files cannot be read" in refusal.message and "secret" not in refusal.message


async def test_a_model_that_was_never_loaded_or_is_unknown_is_refused(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, _, request):
        fresh = await add_language_model(server, "fresh", layers=None)
        for id, kind in ((fresh.id, Conflict), (ids.new(ids.LANGUAGE_MODEL), NotFound)):
            asked = replace(request, language_model_id=id)
            refusal = await refused(server, lambda asked=asked: sae_imports.import_(server, asked))  # type: ignore[misc]
            assert isinstance(refusal, kind)


async def test_the_width_of_a_layer_that_is_no_block_comes_from_the_model_or_from_a_run(
    tmp_path: Path,
) -> None:
    async with prepared(tmp_path, finishing(RESULT)) as (server, _, request):
        other = {"kind": "OTHER", "depth": 0, "module_class": "Linear"}
        wide, gate = {"name": "wide", "width": 64, **other}, {"name": "gate", **other}
        lm = await add_language_model(server, "with others", hidden_size=8, layers=[*LAYERS, wide, gate])
        for_wide = replace(request, language_model_id=lm.id, layer="wide")
        refusal = await refused(server, lambda: sae_imports.import_(server, for_wide))
        assert "the layer's are 64 wide" in refusal.message
        for_gate = replace(request, language_model_id=lm.id, layer="gate")
        job = await end_of(server, await sae_imports.import_(server, for_gate))
        assert job.request["width"] is None
        await add_run(server, lm, layers=[{"name": "gate", "hidden_size": 32}])
        refusal = await refused(server, lambda: sae_imports.import_(server, for_gate))
        assert "the layer's are 32 wide" in refusal.message


@pytest.mark.parametrize(
    ("norm", "is_behind"), [("post_feedforward_layernorm", True), ("post_attention_layernorm", False)]
)
async def test_an_import_knows_whether_the_model_has_norms_behind_attention_and_mlp(
    norm: str, is_behind: bool, tmp_path: Path
) -> None:
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        # Of Llama's, post_attention_layernorm is before the MLP, not behind the attention.
        layer = {"name": f"m_layers_1_{norm}", "kind": "NORM", "depth": 1, "module_class": "RMSNorm"}
        lm = await add_language_model(server, "with norms", hidden_size=16, layers=[*LAYERS, layer])
        await sae_imports.import_(server, replace(request, language_model_id=lm.id))
        (await executor.started.get()).finish(RESULT)
        task = executor.tasks[0][1]
        assert isinstance(task, ImportSae) and task.norms_behind is is_behind


Z = {"name": "m_layers_1_attn_o_proj.input", "kind": "INPUT", "depth": 1, "module_class": "Linear"}


async def test_a_layer_that_is_left_out_is_the_one_that_the_files_name(tmp_path: Path) -> None:
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        attention = {"name": "m_layers_1_attn", "kind": "ATTENTION", "depth": 1, "module_class": "Attention"}
        layers = [*LAYERS, attention, Z | {"width": 16}]
        lm = await add_language_model(server, "with inputs", hidden_size=8, layers=layers)
        path = tmp_path / "models" / "theirs" / "cfg.json"
        cfg = json.loads(path.read_text())
        cfg["metadata"]["hook_name"] = "blocks.1.attn.hook_z"
        path.write_text(json.dumps(cfg))
        asked = replace(request, language_model_id=lm.id, layer=None)
        launched = await sae_imports.import_(server, asked)
        (await executor.started.get()).finish(RESULT)
        job = await end_of(server, launched)
        task = executor.tasks[0][1]
        assert isinstance(task, ImportSae)
        assert (task.layer, task.named_layer, task.kind, task.n_inputs) == (Z["name"], Z["name"], "INPUT", 16)
        assert (await sae_of(server, str(job.artifact_id))).layer == Z["name"]


@pytest.mark.parametrize(
    ("hook", "width", "sentence", "path"),
    [
        (None, 16, "do not say which layer", ["layer"]),
        ("blocks.1.hook_nothing", 16, "name the place blocks.1.hook_nothing", ["layer"]),
        ("blocks.9.hook_resid_post", 16, "name the place blocks.9.hook_resid_post", ["layer"]),
        (
            "blocks.1.hook_resid_post",
            8,
            "layer m_layers_1, which its files name",
            ["source", "saeLens"],
        ),
    ],
)
async def test_a_layer_that_is_left_out_and_not_named_is_asked_for(
    hook: str | None, width: int, sentence: str, path: list[str], tmp_path: Path
) -> None:
    async with prepared(tmp_path) as (server, _, request):
        file = tmp_path / "models" / "theirs" / "cfg.json"
        cfg = json.loads(file.read_text())
        cfg["metadata"]["hook_name"] = hook
        file.write_text(json.dumps(cfg))
        lm = await add_language_model(server, "other", hidden_size=width)
        asked = replace(request, language_model_id=lm.id, layer=None)
        refusal = await refused(server, lambda: sae_imports.import_(server, asked))
        assert isinstance(refusal, InvalidInput) and sentence in refusal.message
        assert [problem.path for problem in refusal.problems] == [path]


async def test_the_format_of_a_path_is_found_out_and_noted(tmp_path: Path) -> None:
    async with prepared(tmp_path, finishing(RESULT)) as (server, _, request):
        for path in ("theirs", "theirs/cfg.json", "theirs/sae_weights.safetensors"):
            found = replace(request, format=None, path=path)
            job = await end_of(server, await sae_imports.import_(server, found))
            assert job.request["format"] == "SAE_LENS" and job.request["source"] == path
            assert list(job.request["files"]) == ["cfg.json", "sae_weights.safetensors"]


async def test_a_directory_in_no_format_is_refused_with_what_was_found_and_what_is_near(
    tmp_path: Path,
) -> None:
    async with prepared(tmp_path) as (server, _, request):
        models = tmp_path / "models"
        (models / "theirs" / "cfg.json").unlink()
        found = replace(request, format=None)
        refusal = await refused(server, lambda: sae_imports.import_(server, found))
        assert isinstance(refusal, InvalidInput) and refusal.problems[0].path == ["source", "path"]
        assert "Found: sae_weights.safetensors." in refusal.message
        assert "W_enc [16, 64]" in refusal.message
        assert "nearest format is SAELens" in refusal.message and "cfg.json is missing" in refusal.message


async def test_a_directory_of_several_saes_is_refused_with_what_to_name(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, _, request):
        for number in range(12):
            made("standard", tmp_path / "models" / "several" / f"trainer_{number:02}")
        found = replace(request, format=None, path="several")
        refusal = await refused(server, lambda: sae_imports.import_(server, found))
        assert "holds 12 files and directories that may be SAEs" in refusal.message
        assert "trainer_00; trainer_01" in refusal.message and "and 2 more" in refusal.message
        assert "trainer_10" not in refusal.message


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["L8R/checkpoints/final.safetensors", "L9R/checkpoints/final.safetensors"], "L8R; L9R."),
        (["layer0.sae.pt", "layer1.sae.pt"], "layer0.sae.pt; layer1.sae.pt."),
        (["layers.1/sae.safetensors", "layers.1.mlp/seed1/sae.safetensors"], "layers.1; layers.1.mlp/seed1."),
        (["layer_3/width_16k/average_l0_7/params.npz"], "layer_3/width_16k/average_l0_7."),
        (["x/trainer_0/ae.pt", "x/trainer_0/checkpoints/ae_5.pt"], "such as x/trainer_0."),
    ],
)
async def test_what_to_name_in_a_directory_of_several_saes(
    names: list[str], shown: str, tmp_path: Path
) -> None:
    async with prepared(tmp_path) as (server, _, request):
        for name in names:
            path = tmp_path / "models" / "several" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        found = replace(request, format=None, path="several")
        refusal = await refused(server, lambda: sae_imports.import_(server, found))
        assert refusal.message.endswith(shown)


async def test_a_file_behind_a_link_is_known_by_the_name_of_the_link(tmp_path: Path) -> None:
    # As the Hugging Face Hub's cache has files: blobs by their hashes, and links by names.
    async with prepared(tmp_path, finishing(RESULT)) as (server, _, request):
        snapshot = tmp_path / "models" / "gemma-scope-2b-pt-res" / "layer_1" / "width_16k" / "average_l0_9"
        snapshot.mkdir(parents=True)
        arrays = {"W_enc": (16, 8), "b_enc": (8,), "W_dec": (8, 16), "b_dec": (16,), "threshold": (8,)}
        with (tmp_path / "models" / "blob").open("wb") as blob:
            np.savez(blob, **{name: np.zeros(shape, "f4") for name, shape in arrays.items()})
        (snapshot / "params.npz").symlink_to(tmp_path / "models" / "blob")
        for path in (snapshot, snapshot / "params.npz"):
            named = replace(request, format=None, path=str(path.relative_to(tmp_path / "models")))
            job = await end_of(server, await sae_imports.import_(server, named))
            assert job.request["format"] == "GEMMA_SCOPE"
            assert job.request["files"] == {"params.npz": str((tmp_path / "models" / "blob").resolve())}


async def test_a_path_is_a_source_of_the_api_and_its_format_is_shown(tmp_path: Path) -> None:
    document = """
    mutation ($input: ImportSaeInput!) {
      importSae(input: $input) {
        ... on JobLaunched { job { title request { ... on ImportRequest { sourceFormat source } } } }
        ... on InvalidInput { fields { path message } }
      }
    }"""
    async with prepared(tmp_path) as (server, lm, _), client_of(server) as client:

        async def ask(source: dict[str, str]) -> Any:
            given = {"languageModelId": lm.id, "layer": "m_layers_1", "source": source}
            body = {"query": document, "variables": {"input": given}}
            return (await client.post("/graphql", json=body)).json()["data"]["importSae"]

        job = (await ask({"path": "theirs"}))["job"]
        assert job["title"] == "Import theirs (SAELens) for tiny, block 1"
        assert job["request"] == {"sourceFormat": "SAE_LENS", "source": "theirs"}
        assert [field["path"] for field in (await ask({"path": ""}))["fields"]] == [["source", "path"]]


async def test_how_an_sae_fits_is_kept_with_it_and_shown(tmp_path: Path) -> None:
    fit = SaeFit(0.25, 31.5, 20.0, 4.5, 12, 1100, ["Too many neurons are active."])
    results = iter((msgspec.structs.replace(RESULT, fit=fit), RESULT))
    executor = FakeExecutor(lambda task, run: run.finish(next(results)))
    shown = "{ explainedVariance l0 statedL0 meanNorm textCount tokenCount warnings }"
    async with prepared(tmp_path, executor) as (server, lm, request), client_of(server) as client:
        checked = await end_of(server, await sae_imports.import_(server, request))
        without = replace(request, check_fit=False)
        not_checked = await end_of(server, await sae_imports.import_(server, without))
        first, second = [task for _, task in executor.tasks]
        assert isinstance(first, ImportSae) and isinstance(second, ImportSae)
        assert (first.check_fit, second.check_fit) == (True, False)
        assert first.parameter_count == lm.parameter_count
        body = {"query": f"{{ saes {{ nodes {{ id fit {shown} }} }} }}"}
        nodes = (await client.post("/graphql", json=body)).json()["data"]["saes"]["nodes"]
        by_id = {node["id"]: node["fit"] for node in nodes}
        assert by_id[not_checked.result_id] is None
        assert by_id[checked.result_id] == {
            "explainedVariance": 0.25,
            "l0": 31.5,
            "statedL0": 20.0,
            "meanNorm": 4.5,
            "textCount": 12,
            "tokenCount": 1100,
            "warnings": ["Too many neurons are active."],
        }


async def test_a_retry_of_an_import_of_an_earlier_version_checks_the_fit_too(tmp_path: Path) -> None:
    executor = finishing(TaskFailure(TaskFailed(1, "FAILED", "The files cannot be read.", [], "")))
    async with prepared(tmp_path, executor) as (server, _, request):
        job = await end_of(server, await sae_imports.import_(server, request))
        async with server.database.write() as session:
            row = await session.get_one(Job, job.id)
            row.request = {name: one for name, one in row.request.items() if name != "check_fit"}
        await end_of(server, await jobs.retry(server, job.id))
        assert [isinstance(task, ImportSae) and task.check_fit for _, task in executor.tasks] == [True, True]


async def test_a_factor_of_the_inputs_that_the_files_leave_out_has_to_be_given(tmp_path: Path) -> None:
    async with prepared(tmp_path, finishing(RESULT)) as (server, _, request):
        path = tmp_path / "models" / "theirs" / "cfg.json"
        scaled = {"normalize_activations": "expected_average_only_in"}
        path.write_text(json.dumps(json.loads(path.read_text()) | scaled))
        refusal = await refused(server, lambda: sae_imports.import_(server, request))
        assert isinstance(refusal, InvalidInput) and refusal.problems[0].path == ["inputScale"]
        assert "expected_average_only_in" in refusal.message and "norm_scaling_factor" in refusal.message
        given = replace(request, input_scale=0.5, center_inputs=True)
        job = await end_of(server, await sae_imports.import_(server, given))
        assert (job.request["input_scale"], job.request["center_inputs"]) == (0.5, True)


@pytest.mark.parametrize(("architecture", "known"), [("GPT2LMHeadModel", True), ("LlamaForCausalLM", None)])
async def test_the_task_says_what_was_asked_for_and_what_the_model_is(
    architecture: str, known: bool | None, tmp_path: Path
) -> None:
    executor = finishing(RESULT)
    document = """
    mutation ($input: ImportSaeInput!) {
      importSae(input: $input) {
        ... on JobLaunched {
          job { id request { ... on ImportRequest { inputScale centerInputs checkFit } } }
        }
      }
    }"""
    async with prepared(tmp_path, executor) as (server, lm, _), client_of(server) as client:
        async with server.database.write() as session:
            (await session.get_one(LanguageModel, lm.id)).architecture = architecture
        given: dict[str, Any] = {"languageModelId": lm.id, "layer": "m_layers_1"}
        given |= {"source": {"path": "theirs"}}
        given |= {"inputScale": 2, "centerInputs": False, "checkFit": False}
        body = {"query": document, "variables": {"input": given}}
        job = (await client.post("/graphql", json=body)).json()["data"]["importSae"]["job"]
        assert job["request"] == {"inputScale": 2.0, "centerInputs": False, "checkFit": False}
        async for _ in jobs.watch(server, job["id"], 0):
            pass
        (task,) = [task for _, task in executor.tasks]
        assert isinstance(task, ImportSae)
        assert (task.input_scale, task.center_inputs, task.check_fit) == (2.0, False, False)
        assert task.has_layer_norms is known


def test_the_api_shows_every_format_that_is_read() -> None:
    assert {format.value for format in SaeSourceFormat} == FORMATS.keys()


async def test_a_source_that_does_not_fit_on_the_disk_is_refused(tmp_path: Path) -> None:
    async with prepared(tmp_path, max_artifact_bytes=1000) as (server, _, request):
        refusal = await refused(server, lambda: sae_imports.import_(server, request))
        assert "there is room for" in refusal.message
        assert isinstance(refusal, InvalidInput) and refusal.problems[0].path == ["source", "saeLens"]


async def test_a_failed_import_leaves_an_sae_that_is_not_usable_and_can_be_deleted(tmp_path: Path) -> None:
    failed = TaskFailed(1, "FAILED", "The tensor W_enc has values that are NaN or infinite.", [], "")
    async with prepared(tmp_path, finishing(TaskFailure(failed))) as (server, _, request):
        job = await end_of(server, await sae_imports.import_(server, request))
        assert (job.status, job.error) == ("FAILED", failed.reason)
        sae = await sae_of(server, job.result_id)
        assert (sae.status, sae.sae_class, sae.checkpoint_path) == (ArtifactStatus.FAILED, None, None)
        with pytest.raises(Conflict):
            await sae_exports.export(server, ExportSaeRequest(sae.id, "SAE_LENS", None))
        await saes.delete(server, sae.id)
        with pytest.raises(NotFound):
            await jobs.retry(server, job.id)


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELED])
async def test_copies_that_a_killed_import_has_left_go_with_its_end(
    status: JobStatus, tmp_path: Path
) -> None:
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        launched = await sae_imports.import_(server, request)
        run = await executor.started.get()
        directory = artifacts.sae_directory(server.settings, await sae_of(server, launched.job.result_id))
        (directory / ".partial-killed").mkdir(parents=True)
        (directory / ".partial-killed" / "source_0").write_bytes(b"x")
        (directory / ".partial-file").write_bytes(b"x")
        if status == JobStatus.CANCELED:
            await jobs.cancel(server, launched.job.id)
        else:
            run.finish(WorkerOutOfMemory())
        assert (await end_of(server, launched)).status == status
        assert not directory.exists() and directory.parent.exists()


def test_files_beside_the_copies_of_a_killed_import_stay(tmp_path: Path) -> None:
    (tmp_path / ".partial-killed").mkdir()
    (tmp_path / "sae.pt").write_bytes(b"x")
    artifacts.remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sae.pt"]
    artifacts.remove_partial(tmp_path / "none")


async def test_a_key_makes_one_import_and_a_running_one_keeps_its_sae(tmp_path: Path) -> None:
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        keyed = replace(request, idempotency_key="once")
        first = await sae_imports.import_(server, keyed)
        await executor.started.get()
        again = await sae_imports.import_(server, keyed)
        assert again.replayed and again.job.id == first.job.id
        with pytest.raises(Conflict) as conflict:
            await sae_imports.import_(server, replace(keyed, layer="m_layers_0"))
        assert conflict.value.code == "IDEMPOTENCY_KEY_MISMATCH"
        with pytest.raises(Conflict):
            await saes.delete(server, first.job.result_id)


async def test_a_canceled_import_is_retried_unless_its_files_have_become_links_elsewhere(
    tmp_path: Path,
) -> None:
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        launched = await sae_imports.import_(server, request)
        await executor.started.get()
        await jobs.cancel(server, launched.job.id)
        job = await end_of(server, launched)
        assert job.status == JobStatus.CANCELED
        assert (await sae_of(server, job.result_id)).status == ArtifactStatus.PARTIAL
        cfg = tmp_path / "models" / "theirs" / "cfg.json"
        cfg.rename(tmp_path / "outside")
        cfg.symlink_to(tmp_path / "outside")
        with pytest.raises(Conflict, match="no longer under"):
            await jobs.retry(server, job.id)
        cfg.unlink()
        (tmp_path / "outside").rename(cfg)
        again = await jobs.retry(server, job.id)
        (await executor.started.get()).finish(RESULT)
        job = await end_of(server, again)
        assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2)
        assert (await sae_of(server, job.result_id)).status == ArtifactStatus.READY


# --------------------------------------------------------------------------- imports of the Hub


def of_hub(request: ImportSaeRequest, **changes: Any) -> ImportSaeRequest:
    hub = replace(request, format=None, path="layer_1/width_16k", repository="owner/gemma-scope-2b-pt-res")
    return replace(hub, **changes)


PROVENANCE = SaeProvenance(
    sae_class="JumpReLUSae",
    n_inputs=16,
    n_latents=64,
    layer="m_layers_1",
    checkpoint_sha256="0" * 64,
    activation_run_id=None,
    run=None,
    training=None,
    metric_definitions_version=1,
    versions={},
    source_format="GEMMA_SCOPE",
    hugging_face=HubSaeProvenance("owner/gemma-scope-2b-pt-res", "layer_1/width_16k", "c" * 40),
)


async def test_an_sae_of_the_hub_is_got_before_it_is_imported_and_is_shown(tmp_path: Path) -> None:
    document = """
    mutation ($input: ImportSaeInput!) { importSae(input: $input) { ... on JobLaunched { job { id } } } }"""
    shown = """
    query ($id: ID!) { job(id: $id) { title progress { unit stage { name completed total } }
      request { ... on ImportRequest { sourceFormat source huggingFace { repository path revision } } }
      result { ... on Sae { name provenance { huggingFace { repository path revision } } } } } }"""
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, lm, _), client_of(server) as client:

        async def ask(document: str, **variables: Any) -> Any:
            answer = await client.post("/graphql", json={"query": document, "variables": variables})
            return answer.json()["data"]

        asked = {"repository": "owner/gemma-scope-2b-pt-res", "path": "layer_1/width_16k", "revision": "v1"}
        given = {"languageModelId": lm.id, "layer": "m_layers_1", "source": {"huggingFace": asked}}
        id = (await ask(document, input=given))["importSae"]["job"]["id"]
        downloading = await executor.started.get()
        lane, task = executor.tasks[0]
        assert lane == "downloads" and isinstance(task, DownloadSae)
        assert task.source == HubSae(**asked) and (task.n_inputs, task.max_latents) == (16, 1_048_576)
        downloading.push(Stage("downloading the SAE", 7, 9))
        async with asyncio.timeout(10):
            # The supervisor writes it down, and tells nobody here.
            while (job := (await ask(shown, id=id))["job"])["progress"]["stage"] is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert job["progress"] == {
            "unit": "BYTES",
            "stage": {"name": "downloading the SAE", "completed": 7, "total": 9},
        }
        source = "owner/gemma-scope-2b-pt-res/layer_1/width_16k"
        assert job["request"] == {"sourceFormat": None, "source": source, "huggingFace": asked}
        assert job["title"] == "Import width_16k for tiny, block 1"
        downloading.finish(Done())
        importing = await executor.started.get()
        lane, task = executor.tasks[1]
        assert lane == "interactive" and isinstance(task, ImportSae) and task.download is not None
        assert (task.files, task.source) == ({}, source)
        importing.finish(msgspec.structs.replace(RESULT, provenance=PROVENANCE))
        async with asyncio.timeout(10):
            while (job := (await ask(shown, id=id))["job"])["request"]["sourceFormat"] is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert job["request"]["sourceFormat"] == "GEMMA_SCOPE"
        assert job["result"] == {
            "name": "width_16k on tiny",
            "provenance": {"huggingFace": asked | {"revision": "c" * 40}},
        }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"repository": "../x"}, ["source", "huggingFace", "repository"]),
        ({"repository": "a/b/c"}, ["source", "huggingFace", "repository"]),
        ({"path": "/layer_1"}, ["source", "huggingFace", "path"]),
        ({"path": "a/../b"}, ["source", "huggingFace", "path"]),
        ({"revision": "a b"}, ["source", "huggingFace", "revision"]),
        ({"layer": "m_layers_9"}, ["layer"]),
    ],
)
async def test_what_cannot_be_on_the_hub_is_refused_at_its_field(
    change: dict[str, Any], path: list[str], tmp_path: Path
) -> None:
    async with prepared(tmp_path) as (server, _, request):
        asked = of_hub(request, **change)
        refusal = await refused(server, lambda: sae_imports.import_(server, asked))
        assert isinstance(refusal, InvalidInput)
        assert [problem.path for problem in refusal.problems] == [path]


@pytest.mark.parametrize(
    ("repository", "path", "layer", "output"),
    [
        ("gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_102", "m_layers_1", None),
        (
            "gemma-scope-2b-pt-transcoders",
            "layer_1/width_16k/average_l0_65",
            "m_layers_1_pre_feedforward_layernorm",
            "m_layers_1_post_feedforward_layernorm",
        ),
    ],
)
async def test_the_layers_of_a_public_sae_are_those_of_the_list(
    repository: str, path: str, layer: str, output: str | None, tmp_path: Path
) -> None:
    before = "m_layers_1_pre_feedforward_layernorm"
    norms = [before, "m_layers_1_post_feedforward_layernorm"]
    plain = {"depth": 1, "module_class": "Module", "width": 16}
    layers = [*LAYERS, {"name": f"{before}.input", "kind": "INPUT", **plain}]
    layers += [{"name": name, "kind": "NORM", **plain} for name in norms]
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        lm = await add_language_model(server, "gemma", hidden_size=16, layers=layers)
        asked = of_hub(request, repository=f"google/{repository}", path=path, layer=None)
        launched = await sae_imports.import_(server, replace(asked, language_model_id=lm.id))
        sae = await sae_of(server, str(launched.job.result_id))
        assert (sae.layer, sae.output_layer) == (layer, output)
        unknown = replace(asked, language_model_id=lm.id, path="layer_1/width_16k/average_l0_0")
        with pytest.raises(InvalidInput) as refusal:
            await sae_imports.import_(server, unknown)
        assert [problem.path for problem in refusal.value.problems] == [["layer"]]
        refused_there = replace(
            unknown, repository="canrager/temporalSAEs", path="gemma-2-2B/layer_12/temporal"
        )
        with pytest.raises(InvalidInput, match="temporal"):
            await sae_imports.import_(server, refused_there)


async def test_a_server_without_the_hub_takes_no_saes_from_it(tmp_path: Path) -> None:
    async with prepared(tmp_path, hub_enabled=False) as (server, _, request):
        refusal = await refused(server, lambda: sae_imports.import_(server, of_hub(request)))
        assert refusal.message.endswith("This server takes no SAEs from the Hugging Face Hub.")


async def test_a_key_stands_for_one_path_of_one_repository_at_one_revision(tmp_path: Path) -> None:
    async with prepared(tmp_path, Holding()) as (server, _, request):
        asked = of_hub(request, idempotency_key="once", revision="v1")
        first = await sae_imports.import_(server, asked)
        assert (await sae_imports.import_(server, asked)).job.id == first.job.id
        for change in ({"revision": None}, {"path": ""}, {"repository": "owner/other"}):
            with pytest.raises(Conflict):
                await sae_imports.import_(server, replace(asked, **change))


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.INTERRUPTED, JobStatus.CANCELED])
async def test_a_retry_goes_on_with_a_download_that_has_failed_and_not_with_a_canceled_one(
    status: JobStatus, tmp_path: Path
) -> None:
    executor = Holding()
    async with prepared(tmp_path, executor) as (server, _, request):
        launched = await sae_imports.import_(server, of_hub(request))
        run = await executor.started.get()
        task = executor.tasks[0][1]
        assert isinstance(task, DownloadSae)
        sae = await sae_of(server, launched.job.result_id)
        directory = artifacts.download_directory(server.settings, sae)
        assert task.directory == str(directory)
        directory.mkdir(parents=True)
        (directory / "params.npz.part").write_bytes(b"x")
        if status == JobStatus.CANCELED:
            await jobs.cancel(server, launched.job.id)
        else:
            failed = TaskFailure(TaskFailed(1, "CONFLICT", "The Hub cannot be reached.", [], ""))
            run.finish(failed if status == JobStatus.FAILED else WorkerLost("The worker was killed."))
        assert (await end_of(server, launched)).status == status
        assert (directory / "params.npz.part").exists() is (status != JobStatus.CANCELED)
        assert directory.parent.exists() is (status != JobStatus.CANCELED)
        await jobs.retry(server, launched.job.id)
        run = await executor.started.get()
        assert executor.tasks[1] == ("downloads", task)
        # All is there: the next attempt asks the Hub for nothing.
        directory.mkdir(parents=True, exist_ok=True)
        (directory / DOWNLOADED_FILE).write_bytes(b"{}")
        run.finish(TaskFailure(TaskFailed(1, "CONFLICT", "No.", [], "")))
        await end_of(server, launched)
        await jobs.retry(server, launched.job.id)
        await executor.started.get()
        assert [lane for lane, _ in executor.tasks] == ["downloads", "downloads", "interactive"]


# --------------------------------------------------------------------------------- exports


async def test_an_export_is_shown_handed_out_replaced_and_deleted_with_its_sae(tmp_path: Path) -> None:
    def write(task: Any, run: TaskRun) -> None:
        assert isinstance(task, ExportSae)
        path = Path(task.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PK" * len(executor.tasks))
        run.finish(ExportResult(path.stat().st_size))

    executor = FakeExecutor(write)
    async with prepared(tmp_path, executor) as (server, lm, _), client_of(server) as client:
        sae = await add_sae(server, await add_run(server, lm, max_length=48))
        for number in (1, 2):
            job = await end_of(server, await sae_exports.export(server, request_for(sae)))
            assert job.status == JobStatus.SUCCEEDED and job.result_id == sae.id
            document = f'{{ sae(id: "{sae.id}") {{ exports {{ format url byteSize createdAt }} }} }}'
            data = (await client.post("/graphql", json={"query": document})).json()["data"]
            (shown,) = data["sae"]["exports"]
            assert (shown["format"], shown["byteSize"]) == ("SAE_LENS", 2 * number)
            handed_out = await client.get(shown["url"])
            assert handed_out.content == b"PK" * number
            assert handed_out.headers["content-type"] == "application/zip"
            name = f'attachment; filename="{sae.id}-sae_lens.zip"'
            assert handed_out.headers["content-disposition"] == name
        task = executor.tasks[0][1]
        assert isinstance(task, ExportSae)
        assert task.metadata["hook_name"] == "blocks.1.hook_resid_post"
        assert task.metadata["context_size"] == 48 and task.metadata["model_name"] == "tiny"
        await saes.delete(server, sae.id)
        assert (await client.get(shown["url"])).status_code == 404
        assert not artifacts.sae_directory(server.settings, sae).exists()


async def test_an_export_of_attention_heads_says_so_in_saelens_words(tmp_path: Path) -> None:
    def write(task: Any, run: TaskRun) -> None:
        Path(task.path).write_bytes(b"PK")
        run.finish(ExportResult(2))

    executor = FakeExecutor(write)
    async with prepared(tmp_path, executor) as (server, _, _):
        attention = {"name": "m_layers_1_attn", "kind": "ATTENTION", "depth": 1, "module_class": "Attention"}
        lm = await add_language_model(server, "with inputs", hidden_size=16, layers=[*LAYERS, attention, Z])
        sae = await add_sae(server, await add_run(server, lm), layer=Z["name"])
        await end_of(server, await sae_exports.export(server, request_for(sae)))
        task = executor.tasks[0][1]
        assert isinstance(task, ExportSae)
        assert task.metadata["hook_name"] == "blocks.1.attn.hook_z"
        assert task.metadata["mi_crow_layer"] == Z["name"]


@pytest.mark.parametrize(
    ("written", "run_option", "option", "expected"),
    [
        ([1], None, None, True),
        ([], None, None, False),
        ([], True, None, True),
        ([1], False, True, False),
        ([1], None, False, True),
    ],
)
async def test_an_export_says_whether_a_bos_stood_before_the_texts_of_its_run(
    tmp_path: Path, written: list[int], run_option: bool | None, option: bool | None, expected: bool
) -> None:
    executor = FakeExecutor(lambda _, run: run.finish(ExportResult(2)))
    async with prepared(tmp_path, executor) as (server, lm, _):
        async with server.database.write() as session:
            row = await session.get_one(LanguageModel, lm.id)
            facts = TokenizerFacts([], written, [], 1)
            row.tokenizer, row.add_bos = msgspec.to_builtins(facts), option
        run = await add_run(server, lm, provenance={"add_bos": run_option})
        sae = await add_sae(server, run)
        await end_of(server, await sae_exports.export(server, request_for(sae)))
    task = executor.tasks[0][1]
    assert isinstance(task, ExportSae)
    assert task.metadata["prepend_bos"] is expected


def request_for(sae: Sae, key: str | None = None) -> ExportSaeRequest:
    return ExportSaeRequest(sae.id, "SAE_LENS", key)


async def test_exports_need_the_token_like_everything_else(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, lm, _), client_of(server, token=SecretStr("secret")) as client:
        sae = await add_sae(server, await add_run(server, lm))
        url = f"/exports/{sae.id}/sae_lens.zip"
        assert (await client.get(url)).status_code == 401
        answer = await client.get(url, headers={"Authorization": "Bearer secret"})
        assert answer.status_code == 404


@pytest.mark.parametrize("name", ["sae.pt", "..%2Fsae.pt", "sae_lens.zip", "x.zip"])
async def test_nothing_but_exports_is_handed_out(name: str, tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, lm, _), client_of(server) as client:
        sae = await add_sae(server, await add_run(server, lm))
        directory = artifacts.sae_directory(server.settings, sae)
        (directory / "exports").mkdir(parents=True)
        for path in (directory / "sae.pt", directory / "exports" / "sae_lens.zip"):
            path.write_bytes(b"x")  # No row tells of it.
        assert (await client.get(f"/exports/{sae.id}/{name}")).status_code == 404


async def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, lm, _):
        run = await add_run(server, lm)
        theirs = await add_sae(server, run, sae_class="SomebodysSae")
        building = await add_sae(server, run, status=ArtifactStatus.BUILDING)
        for sae, sentence in (
            (theirs, "no architecture for the class Somebodys"),
            (building, "not READY"),
        ):
            request = request_for(sae)
            refusal = await refused(server, lambda request=request: sae_exports.export(server, request))  # type: ignore[misc]
            assert isinstance(refusal, Conflict) and sentence in refusal.message
        unknown = ExportSaeRequest(ids.new(ids.SAE), "SAE_LENS", None)
        assert isinstance(await refused(server, lambda: sae_exports.export(server, unknown)), NotFound)


async def test_exports_in_several_formats_stand_beside_each_other(tmp_path: Path) -> None:
    def write(task: Any, run: TaskRun) -> None:
        path = Path(task.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(task.format.encode())
        run.finish(ExportResult(path.stat().st_size))

    async with prepared(tmp_path, FakeExecutor(write)) as (server, lm, _), client_of(server) as client:
        sae = await add_sae(server, await add_run(server, lm), sae_class="TopKSae")
        formats: list[Any] = ["SAE_LENS", "DICTIONARY_LEARNING", "SPARSIFY"]
        for format in formats:
            await end_of(server, await sae_exports.export(server, ExportSaeRequest(sae.id, format, None)))
        document = f'{{ sae(id: "{sae.id}") {{ exports {{ format url }} }} }}'
        shown = (await client.post("/graphql", json={"query": document})).json()["data"]["sae"]["exports"]
        assert [one["format"] for one in shown] == formats[::-1]
        for one in shown:
            assert (await client.get(one["url"])).text == one["format"]


async def test_a_class_that_a_format_has_not_is_refused_with_those_that_have_it(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, lm, _):
        sae = await add_sae(server, await add_run(server, lm), sae_class="JumpReLUSae")
        request = ExportSaeRequest(sae.id, "SPARSIFY", None)
        refusal = await refused(server, lambda: sae_exports.export(server, request))
    assert isinstance(refusal, Conflict)
    assert refusal.message == (
        "sparsify has no architecture for the class JumpReLUSae;"
        " export it for SAELens or dictionary_learning."
    )


async def test_names_go_out_as_neuronpedias_explanations_and_come_back(tmp_path: Path) -> None:
    def write(task: Any, run: TaskRun) -> None:
        run.finish(export_neurons(task, RecordingContext()))

    executor = FakeExecutor(write)
    async with prepared(tmp_path, executor) as (server, lm, _), client_of(server) as client:
        # Of a class of another package: what it computes does not matter here.
        sae = await add_sae(server, await add_run(server, lm), sae_class="SomebodysSae", name="Mine: v2!")
        await add_neuron_index(server, sae)
        names = {0: ("loops", 0.5, "a note"), 2: ("“naïve” 😀", None, None), 3: ("last", 0.0, None)}
        for neuron, (name, score, note) in names.items():
            await concepts.set_concept(server, SetConceptRequest(sae.id, neuron, name, score, note, None))
        job = await end_of(server, await sae_exports.export(server, neurons_request(sae)))
        assert job.status == JobStatus.SUCCEEDED
        document = f'{{ sae(id: "{sae.id}") {{ exports {{ format url }} }} }}'
        (shown,) = (await client.post("/graphql", json={"query": document})).json()["data"]["sae"]["exports"]
        assert shown["format"] == "NEURONPEDIA"
        archive = zipfile.ZipFile(io.BytesIO((await client.get(shown["url"])).content))
        packed = archive.read("explanations/batch-0.jsonl.gz")
        features = gzip.decompress(archive.read("features/batch-0.jsonl.gz")).splitlines()
        first = json.loads(features[0])
        assert (first["modelId"], first["layer"]) == ("tiny", "1-mine-v2")
        assert (first["logits_hist_data_bar_heights"], first["pos_str"]) == ([], [])
        assert first["freq_hist_data_bar_heights"] == [5] + [0] * 31 and len(features) == 4
        other = await add_sae(server, await add_run(server, lm))
        request = ImportConceptsRequest(other.id, None, io.BytesIO(packed), "MERGE")
        assert (await concept_imports.import_concepts(server, request))[1:] == (3, 0)
        async with server.database.read() as session:
            rows = list(await session.scalars(select(Concept).where(Concept.sae_id == other.id)))
    assert {row.neuron_index: (row.name, row.score) for row in rows} == {
        neuron: (name, score) for neuron, (name, score, _) in names.items()
    }
    lines = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert [(one["notes"], one["source"]) for one in lines] == [
        ("a note", "MANUAL"),
        (None, "MANUAL"),
        (None, "MANUAL"),
    ]


def neurons_request(sae: Sae) -> ExportSaeRequest:
    return ExportSaeRequest(sae.id, "NEURONPEDIA", None)


async def test_neurons_are_read_from_the_run_that_was_indexed(tmp_path: Path) -> None:
    executor = finishing(ExportResult(2))
    async with prepared(tmp_path, executor) as (server, lm, _):
        run = await add_run(server, lm, max_length=48, provenance={"begin_token_ids": [1]})
        sae = await add_sae(server, run)
        await add_neuron_index(server, sae)
        async with server.database.write() as session:
            (index,) = await session.scalars(select(NeuronIndex).where(NeuronIndex.sae_id == sae.id))
            index.activation_run_id = run.id
        await end_of(server, await sae_exports.export(server, neurons_request(sae)))
        task = executor.tasks[0][1]
        assert isinstance(task, ExportSae) and task.neurons is not None
        source = task.neurons
        assert source.dataset_dir == str(artifacts.dataset_directory(server.settings, run.id))
        assert (source.begin_token_ids, source.max_length, source.top_texts_per_neuron) == ([1], 48, 3)
        assert are_files(source.index_path, source.names_path)


def are_files(*paths: str) -> bool:
    return all(Path(path).is_file() for path in paths)


async def test_neurons_that_are_not_indexed_are_not_exported(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, lm, _):
        sae = await add_sae(server, await add_run(server, lm))
        refusal = await refused(server, lambda: sae_exports.export(server, neurons_request(sae)))
    assert isinstance(refusal, Conflict) and "run indexNeurons first" in refusal.message


async def test_an_export_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    failed = TaskFailed(1, "FAILED", "There is no room left on the disk.", [], "")
    async with prepared(tmp_path, finishing(TaskFailure(failed))) as (server, lm, _):
        earlier = [{"format": "SAE_LENS", "byte_size": 3, "created_at": "2026-01-01T00:00:00+00:00"}]
        sae = await add_sae(server, await add_run(server, lm), exports=earlier)
        job = await end_of(server, await sae_exports.export(server, request_for(sae, "key")))
        assert job.status == JobStatus.FAILED
        sae = await sae_of(server, sae.id)
        assert (sae.status, sae.exports) == (ArtifactStatus.READY, earlier)
        assert (await end_of(server, await jobs.retry(server, job.id))).attempt == 2


async def test_exports_whose_files_are_lost_are_shown_no_more_and_their_job_can_be_retried(
    tmp_path: Path,
) -> None:
    async with prepared(tmp_path, finishing(ExportResult(1))) as (server, lm, _):
        sae = await add_sae(server, await add_run(server, lm))
        directory = artifacts.sae_directory(server.settings, sae)
        directory.mkdir(parents=True)
        job = await end_of(server, await sae_exports.export(server, request_for(sae)))
        export = artifacts.export_path(server.settings, sae, "SAE_LENS")
        export.parent.mkdir()
        export.write_bytes(b"x")
        await startup.clean_up(server.database, server.settings, time.time() + 1)
        assert len((await sae_of(server, sae.id)).exports or []) == 1
        with pytest.raises(Conflict, match="only one that did not succeed"):
            await jobs.retry(server, job.id)
        export.unlink()
        await startup.clean_up(server.database, server.settings, time.time() + 1)
        assert (await sae_of(server, sae.id)).exports == []
        again = await end_of(server, await jobs.retry(server, job.id))
        assert (again.kind, again.status) == (JobKind.EXPORT_SAE, JobStatus.SUCCEEDED)


# ------------------------------------------------------------------------------ transcoders


GEMMA_LAYERS = [
    {"name": f"m_layers_{depth}{module}", "kind": kind, "depth": depth, "module_class": "X", "width": 16}
    for depth in (0, 1)
    for module, kind in (
        ("", "BLOCK"),
        ("_mlp", "MLP"),
        ("_pre_feedforward_layernorm", "NORM"),
        ("_post_feedforward_layernorm", "NORM"),
    )
]
READ, WRITTEN = "m_layers_0_pre_feedforward_layernorm", "m_layers_0_post_feedforward_layernorm"


def transcoder(directory: Path, written: str | None = WRITTEN, kind: str = "transcoder") -> None:
    """Write one of Gemma Scope 2, which says where it writes as Hugging Face does."""
    sizes = {"w_enc": (16, 40), "b_enc": (40,), "w_dec": (40, 16), "b_dec": (16,), "threshold": (40,)}
    directory.mkdir(parents=True)
    save_file({name: torch.ones(size) for name, size in sizes.items()}, directory / "params.safetensors")
    hook = "model.layers.0.pre_feedforward_layernorm.output"
    said = None if written is None else written.replace("m_layers_0_", "model.layers.0.") + ".output"
    config = {"type": kind, "hf_hook_point_in": hook, "hf_hook_point_out": said}
    (directory / "config.json").write_text(json.dumps(config))


@asynccontextmanager
async def with_transcoder(
    tmp_path: Path, executor: FakeExecutor | None = None, **source: Any
) -> AsyncIterator[tuple[AppContext, ImportSaeRequest]]:
    transcoder(tmp_path / "models" / "theirs", **source)
    async with serving(tmp_path / "artifacts", executor, model_dirs=(tmp_path / "models",)) as server:
        lm = await add_language_model(server, hidden_size=16, layers=GEMMA_LAYERS)
        yield server, ImportSaeRequest(lm.id, READ, None, None, "theirs", None)


@pytest.mark.parametrize("named", [None, WRITTEN, "m_layers_1"])
async def test_a_transcoders_output_layer_is_named_or_worked_out(named: str | None, tmp_path: Path) -> None:
    executor = Holding()
    async with with_transcoder(tmp_path, executor) as (server, request):
        launched = await sae_imports.import_(server, replace(request, output_layer=named))
        (await executor.started.get()).finish(RESULT)
        assert (await end_of(server, launched)).status == "SUCCEEDED"
        sae = await sae_of(server, launched.job.result_id)
        expected = named or WRITTEN
        assert (sae.layer, sae.output_layer) == (READ, expected)
        (task,) = [task for _, task in executor.tasks]
        assert isinstance(task, ImportSae)
        kind = "BLOCK" if named == "m_layers_1" else "NORM"
        assert (task.output_layer, task.output_kind, task.n_outputs) == (expected, kind, 16)
        assert artifacts.sae_source(server.settings, sae).writes == expected
        with pytest.raises(Conflict, match="It is a transcoder"):
            await sae_exports.export(server, ExportSaeRequest(sae.id, "SAE_LENS", None))


@pytest.mark.parametrize(
    ("source", "change", "sentence"),
    [
        ({}, {"output_layer": "m_layers_9"}, "has no layer 'm_layers_9'"),
        ({}, {"output_layer": READ}, "name the output layer, another one"),
        ({}, {"layer": "m_layers_1_mlp", "output_layer": WRITTEN}, "has its output before m_layers_1_mlp"),
        ({}, {"layer": "m_layers_0", "output_layer": WRITTEN}, "has its output before m_layers_0"),
        ({"written": None}, {}, "is not told for sure"),
        ({"written": READ, "kind": "sae"}, {"output_layer": WRITTEN}, "leave the output layer out"),
    ],
)
async def test_an_output_layer_that_cannot_be_is_refused_at_its_field(
    source: dict[str, Any], change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    async with with_transcoder(tmp_path, **source) as (server, request):
        refusal = await refused(server, lambda: sae_imports.import_(server, replace(request, **change)))
        assert isinstance(refusal, InvalidInput)
        ((path, message),) = [(problem.path, problem.message) for problem in refusal.problems]
        assert path == ["outputLayer"] and sentence in message


async def test_an_sae_writes_the_layer_that_it_reads_also_where_that_is_named(tmp_path: Path) -> None:
    async with with_transcoder(tmp_path, finishing(RESULT), written=READ, kind="sae") as (server, request):
        launched = await sae_imports.import_(server, replace(request, output_layer=READ))
        assert (await sae_of(server, launched.job.result_id)).output_layer is None
