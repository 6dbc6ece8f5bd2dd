"""The server tells its limits, its SAE classes, and how it is: workers, queue and disk."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from gql_server import ids
from gql_server.api.context import Context
from gql_server.api.schema import schema
from gql_server.api.server import ServerLimits
from gql_server.artifacts import usage
from gql_server.artifacts.disk import used_bytes
from gql_server.formats.sae_classes import BUILT_IN
from gql_server.jobs.executor import TaskRun, WorkerState
from gql_server.processes.process_memory import resident_bytes
from gql_server.protocol.wire import SaeClassDescription, WorkerReady
from gql_server.services import server_status
from gql_server.services.app_context import AppContext
from gql_server.settings import Settings
from models.enums import JobStatus
from tests.api.asking import ask, counted_statements
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, idle_job, serving

STATUS = """{ server { resumesJobs status { startedAt memoryBytes queuedJobs waitingInteractiveRequests
  artifactBytes artifactBytesByKind { kind byteSize } artifactsMeasuredAt artifactByteLimit freeBytes
  workers { lanes isRunning gpu device interactiveRequests memoryBytes acceleratorMemoryBytes
            busyWith { id title } languageModels { name } } } } }"""


class Executor(FakeExecutor):
    async def describe(self) -> WorkerReady:
        classes = [
            SaeClassDescription(name, not name.startswith(("L1", "ReLU", "Gated")), built_in.description)
            for name, built_in in BUILT_IN.items()
        ]
        return WorkerReady(["cpu"], [*classes, SaeClassDescription("StrangeSae", False, "Somebody else's.")])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AppContext]:
    async with serving(tmp_path, Executor(), resume_jobs=True, max_artifact_bytes=10**12) as parts:
        yield parts


# ---------------------------------------------------------------------------------- limits


async def test_every_limit_of_the_settings_that_a_client_may_hit_is_told(server: AppContext) -> None:
    settings = [name for name in Settings.model_fields if name.startswith("max_")]
    shown = set(ServerLimits.__annotations__)
    assert shown == set(settings)
    fields = {name: camel_case(name) for name in settings}
    query = f"{{ server {{ limits {{ {' '.join(fields.values())} }} }} }}"
    found = (await ask(server, query))["server"]["limits"]
    assert found == {field: getattr(server.settings, name) for name, field in fields.items()}


def camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


async def test_sae_classes_are_described_with_what_each_needs_the_recommended_one_first(
    server: AppContext,
) -> None:
    query = (
        "{ server { saeClassInfos { name description recommended needsK usesL1Lambda builtIn } saeClasses } }"
    )
    found = (await ask(server, query))["server"]
    infos = found["saeClassInfos"]
    assert {info["name"] for info in infos} == set(found["saeClasses"]) == {*BUILT_IN, "StrangeSae"}
    assert [info["name"] for info in infos if info["recommended"]] == ["BatchTopKSae"] == [infos[0]["name"]]
    assert {info["name"] for info in infos if info["usesL1Lambda"]} == {
        "GatedSae",
        "L1Sae",
        "ReLUSae",
        "StrangeSae",
    }
    assert all(info["needsK"] != info["usesL1Lambda"] for info in infos)
    strange = next(info for info in infos if not info["builtIn"])
    assert (strange["name"], strange["description"]) == ("StrangeSae", "Somebody else's.")
    assert all(info["description"] for info in infos)


# ---------------------------------------------------------------------------------- status


async def test_the_status_has_workers_with_what_they_do_the_queue_and_the_disk(server: AppContext) -> None:
    model = await add_language_model(server)
    async with server.database.write() as session:
        job = idle_job(request={"language_model_id": model.id})
        session.add(job)
        session.add_all([idle_job(status=JobStatus.QUEUED) for _ in range(3)])
    runs = [TaskRun() for _ in range(4)]
    for run in runs[:3]:
        run.begin()
    server.supervisor._runs[runs[0]] = job.id
    assert isinstance(server.executor, FakeExecutor)
    server.executor.states = [
        WorkerState(["interactive"], None, None, None, [], [], None),
        WorkerState(["jobs"], os.getpid(), "3", "cuda:0", runs, [model.id, "lm_deleted"], 5_000_000_000),
    ]
    (server.settings.artifact_dir / "orphans").mkdir()
    (server.settings.artifact_dir / "orphans" / "file").write_bytes(b"x" * 1234)
    with server.in_use.by_request(), server.in_use.by_request(), server.in_use.by_request():
        found = (await ask(server, STATUS))["server"]
    del server.supervisor._runs[runs[0]]
    status = found["status"]
    assert found["resumesJobs"] is True
    idle, busy = status["workers"]
    assert idle == {
        "lanes": ["interactive"],
        "isRunning": False,
        "gpu": None,
        "device": None,
        "interactiveRequests": 0,
        "memoryBytes": None,
        "acceleratorMemoryBytes": None,
        "busyWith": [],
        "languageModels": [],
    }
    assert busy.pop("memoryBytes") > 10_000_000
    assert busy == {
        "lanes": ["jobs"],
        "isRunning": True,
        "gpu": "3",
        "device": "cuda:0",
        "interactiveRequests": 2,
        "acceleratorMemoryBytes": 5_000_000_000,
        "busyWith": [{"id": job.id, "title": "Capture activations of tiny"}],
        "languageModels": [{"name": "tiny"}],
    }
    assert (status["queuedJobs"], status["waitingInteractiveRequests"]) == (3, 1)
    assert status["artifactByteLimit"] == 10**12 and status["freeBytes"] > 0 and status["memoryBytes"] > 10**7
    kinds = {entry["kind"]: entry["byteSize"] for entry in status["artifactBytesByKind"]}
    assert kinds["OTHER"] == 1234 and kinds["DATABASE"] > 0 and len(kinds) == len(usage.ArtifactKind)
    assert status["artifactBytes"] == sum(kinds.values())


async def test_any_number_may_ask_and_the_server_looks_once_a_second(server: AppContext) -> None:
    with counted_statements(server) as statements:
        answers = await asyncio.gather(*(ask(server, STATUS) for _ in range(20)))
    assert len(statements) == 1, statements
    assert all(answer == answers[0] for answer in answers)


async def test_the_disk_is_not_gone_over_again_before_that_is_due(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_status, "INTERVAL_SECONDS", 0)
    first = await server.monitor.status(server)
    (server.settings.artifact_dir / "more").write_bytes(b"x" * 999)
    second = await server.monitor.status(server)
    assert second.at > first.at and second.artifact_bytes is first.artifact_bytes
    monkeypatch.setattr(server.monitor, "_measure_at", 0.0)
    await server.monitor.status(server)
    if server.monitor._measuring is not None:
        await server.monitor._measuring
    third = await server.monitor.status(server)
    assert first.artifact_bytes is not None and third.artifact_bytes is not None
    assert third.artifact_bytes["OTHER"] == first.artifact_bytes["OTHER"] + 999  # type: ignore[index]


async def test_a_look_at_the_disk_that_takes_too_long_keeps_nobody_and_shows_what_was_known(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_status, "LONGEST_MEASURING_SECONDS", -1.0)
    status = (await ask(server, STATUS))["server"]["status"]
    assert status["artifactBytes"] is status["artifactsMeasuredAt"] is None
    assert status["artifactBytesByKind"] == []


async def test_the_subscription_sends_the_status_again_and_again(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_status, "INTERVAL_SECONDS", 0)
    document = "subscription { serverStatus { at queuedJobs workers { lanes } } }"
    counts, times = [], set()
    async with aclosing(await schema.subscribe(document, {}, Context(server))) as results:
        async for result in results:
            assert result.errors is None and result.data
            counts.append(result.data["serverStatus"]["queuedJobs"])
            times.add(result.data["serverStatus"]["at"])
            if len(counts) == 3:
                break
            async with server.database.write() as session:
                session.add(idle_job(status=JobStatus.QUEUED))
    assert counts == [0, 1, 2] and len(times) == 3


# --------------------------------------------------------------------------------- helpers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("store/runs/{run}/batch_0/m/activations.safetensors", "ACTIVATIONS"),
        ("store/runs/{index}/statistics.safetensors", "INDEXES"),
        ("store/runs/else/file", "OTHER"),
        ("sae/lm_1/sae_1/sae.pt", "CHECKPOINTS"),
        ("sae/lm_1/sae_1/configs/c.json", "CHECKPOINTS"),
        ("sae/lm_1/sae_1/top_texts/index.json", "INDEXES"),
        ("sae/lm_1/sae_1/exports/sae_lens.zip", "EXPORTS"),
        ("datasets/run_1/data.arrow", "DATASETS"),
        ("models/lm_1/tokenizer.json", "LANGUAGE_MODELS"),
        ("gql_server.sqlite3-wal", "DATABASE"),
        ("orphans/gql_server.sqlite3", "OTHER"),
    ],
)
def test_files_are_told_by_their_paths(tmp_path: Path, path: str, kind: str) -> None:
    named = path.format(run=ids.new(ids.ACTIVATION_RUN), index=ids.new(ids.NEURON_INDEX))
    file = tmp_path / named
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * 77)
    found = usage.usage_by_kind(tmp_path, lambda: False)
    assert found is not None
    assert {name: n_bytes for name, n_bytes in found.items() if n_bytes} == {kind: 77}
    assert sum(found.values()) == used_bytes(tmp_path)


def test_texts_that_a_stored_dataset_and_runs_share_count_once(tmp_path: Path) -> None:
    names = [tmp_path / "datasets" / owner / "texts.arrow" for owner in ("ds_1", "run_1", "run_2")]
    for name in names:
        name.parent.mkdir(parents=True)
    names[0].write_bytes(b"x" * 77)
    for name in names[1:]:
        name.hardlink_to(names[0])
    found = usage.usage_by_kind(tmp_path, lambda: False)
    assert found is not None and found[usage.ArtifactKind.DATASETS] == 77 == used_bytes(tmp_path)


def test_a_look_ends_when_it_is_late(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).mkdir()
    looks: list[int] = []
    assert usage.usage_by_kind(tmp_path, lambda: looks.append(1) or len(looks) > 2) is None  # type: ignore[func-returns-value]
    assert len(looks) == 3


def test_the_memory_of_a_process_that_has_ended_is_not_known() -> None:
    own = resident_bytes(os.getpid())
    assert own is None or own > 10_000_000
    assert resident_bytes(2**30) is None


async def test_the_paths_of_language_models_are_told_as_they_are_added(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/tiny.gguf").write_bytes(b"GGUF")
    async with serving(tmp_path, Executor(), model_dirs=(tmp_path / "models",)) as parts:
        (path,) = (await ask(parts, "{ server { languageModelPaths } }"))["server"]["languageModelPaths"]
        added = await ask(
            parts,
            'mutation($path: String!) { addLanguageModel(input: {name: "tiny", source: {path: $path}})'
            " { __typename } }",
            path=path,
        )
    assert added["addLanguageModel"]["__typename"] == "LanguageModelAdded"
