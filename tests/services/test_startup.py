"""What a server makes of files and rows that do not belong together."""

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy import func, select

from gql_server import ids
from gql_server.artifacts import files
from gql_server.services import (
    activation_runs,
    artifacts,
    job_kinds,
    jobs,
    launching,
    neuron_tensors,
    orphans,
    removals,
    saes,
    startup,
)
from gql_server.services.app_context import AppContext
from models import ActivationRun, Job, JobEvent, NeuronIndex, Removal, Sae
from models.enums import ArtifactStatus, JobEventType, JobKind, JobStatus
from tests.support.requests import capture_request
from tests.support.serving import add_language_model, add_run, add_sae, serving

Artifact = TypeVar("Artifact", ActivationRun, Sae, NeuronIndex)


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def all_files(directory: Path) -> set[str]:
    return {
        str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file() and "sqlite3" not in p.name
    }


async def tidy(server: AppContext) -> None:
    await startup.clean_up(server.database, server.settings, time.time() + 1)


async def count(server: AppContext, table: type[Removal]) -> int:
    async with server.database.read() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def test_what_no_row_knows_is_moved_and_what_a_row_knows_stays(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        lm = await add_language_model(server)
        run = await add_run(server, lm, status=ArtifactStatus.PARTIAL)
        sae = await add_sae(server, run, status=ArtifactStatus.PARTIAL)
        known = [
            f"store/runs/{run.id}/batch_0/batch.json",
            f"datasets/{run.id}/texts.arrow",
            f"models/{lm.id}/tokenizer.json",
            f"{sae.directory}/snapshot.pt",
            f"{sae.directory}/top_texts/{ids.new(ids.REQUEST)}.json",
            f"{sae.directory}/concepts/concepts.json",
        ]
        strangers = [
            f"store/runs/{ids.new(ids.ACTIVATION_RUN)}/batch_0/batch.json",
            f"store/runs/{ids.new(ids.NEURON_INDEX)}/batch_000000.safetensors",
            "store/runs/by hand/x",
            f"datasets/{ids.new(ids.ACTIVATION_RUN)}/texts.arrow",
            f"models/{ids.new(ids.LANGUAGE_MODEL)}/tokenizer.json",
            f"sae/{lm.id}/{ids.new(ids.SAE)}/sae.pt",
            f"{sae.directory}/top_texts/{ids.new(ids.NEURON_INDEX)}.json",
            f"{sae.directory}/configs/{ids.new(ids.CONCEPT_CONFIG)}.json",
        ]
        for path in (*known, *strangers):
            write(tmp_path / path)
        await tidy(server)
        assert all_files(tmp_path) == {*known, *(f"orphans/{path}" for path in strangers)}
        write(tmp_path / strangers[0], b"again")
        await tidy(server)
    moved = sorted(
        (tmp_path / "orphans/store/runs").glob(f"{Path(strangers[0]).parts[2]}*/batch_0/batch.json")
    )
    assert [path.read_bytes() for path in moved] == [b"x", b"again"]


async def test_files_that_are_made_while_the_server_runs_are_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        started = time.time() - 1
        fresh = write(tmp_path / f"datasets/{ids.new(ids.ACTIVATION_RUN)}/texts.arrow")
        partial = write(tmp_path / f"datasets/{files.TEMPORARY_PREFIX}x/texts.arrow")
        sae = write(tmp_path / f"sae/{ids.new(ids.LANGUAGE_MODEL)}/{ids.new(ids.SAE)}/model.pt").parent
        config = write(sae / f"configs/{ids.new(ids.CONCEPT_CONFIG)}.json")
        os.utime(config, (0, 0))  # As a copy may have it: its ID says when it was made.
        await startup.clean_up(server.database, server.settings, started)
        assert fresh.exists() and partial.exists() and config.exists()
        await tidy(server)
        assert not fresh.exists() and not partial.exists()
    assert [path.name for path in (tmp_path / "orphans").rglob("*.arrow")] == ["texts.arrow"]


async def test_deleted_files_go_although_the_server_ends_before_it_comes_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server))
        tensors = write(artifacts.run_directory(server.settings, run.id) / "batch_0" / "x")
        texts = write(artifacts.dataset_directory(server.settings, run.id) / "texts.arrow")
        with monkeypatch.context() as ending:
            ending.setattr(removals, "after_commit", lambda session, work: None)
            await activation_runs.delete(server, run.id)
        assert tensors.exists() and await count(server, Removal) == 2
    async with serving(tmp_path) as server:
        await tidy(server)
        assert await count(server, Removal) == 0
    assert not tensors.exists() and not texts.exists() and not (tmp_path / "orphans").exists()


async def test_what_is_being_deleted_is_no_orphan(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = f"datasets/{ids.new(ids.ACTIVATION_RUN)}"
        texts = write(tmp_path / path / "texts.arrow")
        async with server.database.write() as session:
            session.add(Removal(path=path))
        await orphans.move(server.database, server.settings, time.time() + 1)
        assert texts.exists()
        await removals.finish(server.database, server.settings, time.time() - 60)
        assert texts.exists(), "what this server is about to remove or to keep is its own business"
        await removals.finish(server.database, server.settings, time.time() + 1)
        assert not texts.exists() and await count(server, Removal) == 0


@pytest.mark.parametrize("killed", [True, False])
async def test_texts_whose_capture_is_never_queued_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async def do_nothing(*_: object) -> None:
        pass

    async with serving(tmp_path) as server:
        lm = await add_language_model(server)
        with monkeypatch.context() as broken:
            broken.setattr(launching.Launch, "queue", fail)
            if killed:
                broken.setattr(removals, "discard", do_nothing)
            with pytest.raises(ZeroDivisionError):
                await activation_runs.capture(server, capture_request(lm.id))
        assert len(list((tmp_path / "datasets").iterdir())) == killed
        await tidy(server)
        assert await count(server, Removal) == 0
        assert not all_files(tmp_path)
        launched = await activation_runs.capture(server, capture_request(lm.id))
        assert await count(server, Removal) == 0
        await tidy(server)
    assert all_files(tmp_path) == {f"datasets/{launched.job.result_id}/texts.arrow"}


def test_a_partial_file_that_goes_while_others_are_looked_for_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = write(tmp_path / f"{files.TEMPORARY_PREFIX}left")
    gone = tmp_path / f"{files.TEMPORARY_PREFIX}gone"
    monkeypatch.setattr(startup, "_partial", lambda _: iter([gone, left]))
    startup.remove_partial_files(tmp_path, time.time() + 1)
    assert not left.exists()


async def test_deleting_removes_the_files_and_leaves_no_note_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add_sae(server, await add_run(server, await add_language_model(server)))
        checkpoint = write(tmp_path / sae.directory / "sae.pt")
        await saes.delete(server, sae.id)
        assert not checkpoint.parent.exists() and await count(server, Removal) == 0


async def lost(server: AppContext, row: Artifact, kind: JobKind) -> tuple[ArtifactStatus, str]:
    """Give a row a job that has succeeded and tidy; returns the row's status and the job's last sentence."""
    handler = job_kinds.BY_KIND[kind]
    job = launching.new_job(handler, artifact_id=row.id, request={"index_neurons": False})
    async with server.database.write() as session:
        job.status = JobStatus.SUCCEEDED
        session.add(job)
        await session.flush()
        found: Artifact = await session.get_one(type(row), row.id)
        found.job_id = job.id
    await tidy(server)
    async with server.database.read() as session:
        found = await session.get_one(type(row), row.id)
        status = found.status
        logged = select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.type == JobEventType.LOG)
        events = list(await session.scalars(logged))
    return status, events[-1].payload["message"] if events else ""


async def test_a_ready_run_without_its_files_fails_says_why_and_can_be_made_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server), batch_count=2)
        write(artifacts.dataset_directory(server.settings, run.id) / "texts.arrow")
        for name in ("manifest.json", "plan.json", "batch_0/metadata.json"):
            write(artifacts.run_directory(server.settings, run.id) / name)
        status, sentence = await lost(server, run, JobKind.CAPTURE_ACTIVATIONS)
        assert status == ArtifactStatus.FAILED and "batch 0 of the run was missing" in sentence
        async with server.database.read() as session:
            job_id = (await session.get_one(ActivationRun, run.id)).job_id
        assert job_id is not None
        assert (await jobs.retry(server, job_id)).job.attempt == 2


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-30])])
async def test_a_ready_sae_without_its_whole_checkpoint_fails(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server), status=ArtifactStatus.PARTIAL)
        sae = await add_sae(server, run)
        async with server.database.write() as session:
            (await session.get_one(Sae, sae.id)).checkpoint_path = f"{sae.directory}/sae.pt"
        whole = tmp_path / sae.directory / "sae.pt"
        whole.parent.mkdir(parents=True)
        with zipfile.ZipFile(whole, "w") as checkpoint:  # As torch.save makes it.
            checkpoint.writestr("data", "x" * 100)
        snapshot = write(tmp_path / sae.directory / "snapshot.pt")
        download = write(tmp_path / sae.directory / "download" / "params.npz")
        assert (await lost(server, sae, JobKind.TRAIN_SAE))[0] == ArtifactStatus.READY
        assert not snapshot.exists() and not download.parent.exists()
        damage(whole)
        status, sentence = await lost(server, sae, JobKind.TRAIN_SAE)
    assert status == ArtifactStatus.FAILED and "the SAE's sae.pt was missing" in sentence


async def test_a_ready_index_whose_tensors_are_cut_off_fails(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server), status=ArtifactStatus.PARTIAL)
        sae = await add_sae(server, run, status=ArtifactStatus.PARTIAL)
        index = NeuronIndex(
            id=ids.new(ids.NEURON_INDEX),
            sae_id=sae.id,
            status=ArtifactStatus.READY,
            top_texts_per_neuron=1,
            top_texts_path=f"{sae.directory}/top_texts/index.json",
        )
        async with server.database.write() as session:
            session.add(index)
        write(tmp_path / sae.directory / "top_texts" / "index.json")
        path = write(neuron_tensors.path_of(server.settings, index.id))
        save_file({"frequency": np.ones(9, np.float32)}, path)
        assert (await lost(server, index, JobKind.INDEX_NEURONS))[0] == ArtifactStatus.READY
        path.write_bytes(path.read_bytes()[:-4])
        status, sentence = await lost(server, index, JobKind.INDEX_NEURONS)
    assert status == ArtifactStatus.FAILED and "the index's file of tensors" in sentence


async def test_a_job_that_succeeded_and_whose_result_is_there_cannot_be_retried(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        # As the first version stored it: there is no plan, nor are there records to compare batches with.
        run = await add_run(server, await add_language_model(server), batch_count=1)
        write(artifacts.dataset_directory(server.settings, run.id) / "texts.arrow")
        for name in ("manifest.json", "batch_0/metadata.json"):
            write(artifacts.run_directory(server.settings, run.id) / name)
        assert (await lost(server, run, JobKind.CAPTURE_ACTIVATIONS))[0] == ArtifactStatus.READY
        async with server.database.read() as session:
            job = await session.scalar(select(Job))
        assert job is not None
        with pytest.raises(Exception, match="only one that did not succeed"):
            await jobs.retry(server, job.id)


async def test_a_store_on_another_disk_is_tidied_and_deleted_from_like_any(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with serving(tmp_path / "artifacts") as server:
        (tmp_path / "artifacts" / "store").symlink_to(elsewhere)
        run = await add_run(server, await add_language_model(server))
        tensors = write(artifacts.run_directory(server.settings, run.id) / "batch_0" / "x")
        partial = write(elsewhere / f"{files.TEMPORARY_PREFIX}x")
        stranger = write(elsewhere / "runs" / "by hand" / "x")
        await tidy(server)
        assert not partial.exists() and not stranger.exists()
        assert (tmp_path / "artifacts/orphans/store/runs/by hand/x").exists()
        await activation_runs.delete(server, run.id)
        assert not tensors.exists() and await count(server, Removal) == 0


async def test_an_orphan_goes_with_all_that_is_in_it_and_one_failure_stops_no_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no")

    async with serving(tmp_path) as server:
        sae = f"sae/{ids.new(ids.LANGUAGE_MODEL)}/{ids.new(ids.SAE)}"
        inside = [f"{sae}/configs/{ids.new(ids.CONCEPT_CONFIG)}.json", f"{sae}/sae.pt"]
        for path in inside:
            write(tmp_path / path)
        async with server.database.write() as session:
            session.add(Removal(path="datasets/stubborn"))
        with monkeypatch.context() as broken:
            broken.setattr(removals, "remove", fail)
            broken.setattr(startup, "remove_partial_files", fail)
            await tidy(server)
        assert await count(server, Removal) == 1, "it is tried again at the next start"
    assert all_files(tmp_path) == {f"orphans/{path}" for path in inside}
