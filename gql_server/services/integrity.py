"""READY artifacts whose files are not there, or not whole: they become FAILED, and their job says why."""

import asyncio
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.artifacts import datasets
from gql_server.artifacts.manifest import MANIFEST_FILE, PLAN_FILE, whole_batch
from gql_server.database.database import Database
from gql_server.formats.sae_classes import BUILT_IN
from gql_server.jobs import event_log
from gql_server.services import artifacts, neuron_tensors
from gql_server.settings import Settings
from models import ActivationRun, Job, NeuronIndex, Sae, StoredDataset
from models.enums import ArtifactStatus, JobEventType

log = structlog.get_logger(__name__)

Artifact = TypeVar("Artifact", ActivationRun, Sae, NeuronIndex, StoredDataset)
ROWS_AT_ONCE = 100


async def check(database: Database, settings: Settings) -> None:
    """Look for the files of every READY artifact."""
    await _check(database, ActivationRun, lambda row: _missing_of_run(settings, row))
    await _check(database, Sae, lambda row: _missing_of_sae(settings, row))
    await _check(database, NeuronIndex, lambda row: _missing_of_index(settings, row))
    await _check(database, StoredDataset, lambda row: _missing_of_dataset(settings, row))
    await _forget_lost_exports(database, settings)


async def _check(
    database: Database, table: type[Artifact], missing_of: Callable[[Artifact], str | None]
) -> None:
    after = ""
    while rows := await _ready_rows(database, table, after):
        after = rows[-1].id
        for row in rows:
            what = await asyncio.to_thread(missing_of, row)
            if what is not None:
                async with database.write() as session:
                    await _mark(session, table, row.id, what)


async def _forget_lost_exports(database: Database, settings: Settings) -> None:
    """Show no exports whose files are gone; retryJob or another exportSae writes them again."""
    async with database.read() as session:
        with_exports = list(await session.scalars(select(Sae.id).where(Sae.exports.is_not(None))))
    for id in with_exports:
        async with database.write() as session:
            sae = await session.get(Sae, id)
            if sae is None or not sae.exports:
                continue
            kept = await asyncio.to_thread(_exports_there, settings, sae)
            if len(kept) < len(sae.exports):
                log.warning("exports are lost", sae=id, exports=[one["format"] for one in sae.exports])
                sae.exports = kept


def _exports_there(settings: Settings, sae: Sae) -> list[dict[str, Any]]:
    return [
        export
        for export in sae.exports or []
        if artifacts.export_path(settings, sae, export["format"]).is_file()
    ]


async def _ready_rows(database: Database, table: type[Artifact], after: str) -> Sequence[Artifact]:
    async with database.read() as session:
        ready = select(table).where(table.status == ArtifactStatus.READY, table.id > after)
        return list(await session.scalars(ready.order_by(table.id).limit(ROWS_AT_ONCE)))


async def _mark(session: AsyncSession, table: type[Artifact], id: str, what: str) -> None:
    row = await session.get(table, id)
    if row is None or row.status != ArtifactStatus.READY:
        return  # Deleted since, or being made again.
    row.status = ArtifactStatus.FAILED
    log.warning("artifact's files are lost", artifact=id, missing=what)
    job_id = None if isinstance(row, StoredDataset) else row.job_id
    job = await session.get(Job, job_id) if job_id else None
    if job is not None:
        message = f"At the server's start {what} was missing or not whole; retryJob makes what it can again."
        await event_log.append(session, job, JobEventType.LOG, {"message": message})


def _missing_of_run(settings: Settings, run: ActivationRun) -> str | None:
    directory = artifacts.run_directory(settings, run.id)
    if not (directory / MANIFEST_FILE).is_file():
        return "the run's manifest"
    if not (artifacts.dataset_directory(settings, run.id) / datasets.FILE_NAME).is_file():
        return "the file of the run's texts"
    # Runs of the first version have no plan, nor records to compare their batches with.
    whole = whole_batch if (directory / PLAN_FILE).is_file() else Path.is_dir
    for index in range(run.batch_count):
        if not whole(directory / f"batch_{index}"):
            return f"batch {index} of the run"
    return None


def _missing_of_sae(settings: Settings, sae: Sae) -> str | None:
    # A server that ended in the wrong moment has left them behind.
    artifacts.remove([artifacts.snapshot_path(settings, sae), artifacts.download_directory(settings, sae)])
    paths = [path for path in (sae.checkpoint_path, sae.metadata_path) if path is not None]
    gone = [path for path in paths if not (settings.artifact_dir / path).is_file()]
    if gone:
        return f"the SAE's {Path(gone[0]).name}"
    checkpoint = settings.artifact_dir / (sae.checkpoint_path or "")
    # As torch.save makes it; another package's class may save in another way.
    cut_off = sae.sae_class in BUILT_IN and checkpoint.is_file() and not zipfile.is_zipfile(checkpoint)
    return f"the SAE's {checkpoint.name}" if cut_off else None


def _missing_of_index(settings: Settings, index: NeuronIndex) -> str | None:
    if index.top_texts_path is None or not (settings.artifact_dir / index.top_texts_path).is_file():
        return "the index's file of top texts"
    path = neuron_tensors.path_of(settings, index.id)
    return None if neuron_tensors.is_whole(path) else "the index's file of tensors"


def _missing_of_dataset(settings: Settings, dataset: StoredDataset) -> str | None:
    texts = artifacts.dataset_directory(settings, dataset.id) / datasets.FILE_NAME
    return None if texts.is_file() else "the file of the dataset's texts"
