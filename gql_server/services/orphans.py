"""Files of the artifact directory that no row knows: they are moved to ``orphans/``, never deleted."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from ulid import ULID

from gql_server import ids
from gql_server.database.database import Database
from gql_server.services import evaluations
from gql_server.settings import Settings
from models import ActivationRun, ConceptConfig, LanguageModel, NeuronIndex, Removal, Sae, StoredDataset

log = structlog.get_logger(__name__)

DIRECTORY = "orphans"


async def move(database: Database, settings: Settings, started_at: float) -> None:
    """Move files of no row, except those made after ``started_at``: their row may still be to come."""
    root = settings.artifact_dir.resolve()
    found = await asyncio.to_thread(_older_artifacts, root, started_at)
    if not found:
        return
    async with database.write() as session:  # Nobody deletes meanwhile.
        known = await _known(session)
        strangers = [path for path in found if path.name.removesuffix(".json") not in known]
        # What lies in another one goes with it.
        orphans = [path for path in strangers if not any(one in path.parents for one in strangers)]
        moves = await asyncio.to_thread(lambda: [(path, _move(path, root)) for path in orphans])
    for path, moved_to in moves:
        log.warning("moved orphans", path=str(path), to=str(moved_to))


async def _known(session: AsyncSession) -> set[str]:
    """Return the IDs of all rows, and of what has just been deleted and is being removed."""
    known = await evaluations.keepers(session)
    for table in (ActivationRun, NeuronIndex, Sae, LanguageModel, ConceptConfig, StoredDataset):
        known.update(await session.scalars(select(table.id)))
    removed = await session.scalars(select(Removal.path))
    return known | {Path(path).name.removesuffix(".json") for path in removed}


def _older_artifacts(root: Path, time: float) -> list[Path]:
    return [path for path in _artifacts(root) if _is_older(path, time)]


def _artifacts(root: Path) -> Iterator[Path]:
    """Give everything whose name is, or should be, the ID of a row."""
    for pattern in ("store/runs/*", "datasets/*", "models/*", "sae/*/*"):
        yield from root.glob(pattern)
    for sae in root.glob("sae/*/*"):
        yield from sae.glob("configs/*.json")
        # A top-texts file of a request has no row; it goes with its SAE.
        yield from sae.glob(f"top_texts/{ids.NEURON_INDEX}_*.json")


def _is_older(path: Path, time: float) -> bool:
    try:
        made_at = ULID.from_str(path.name.removesuffix(".json").rpartition("_")[2]).timestamp
    except ValueError:
        made_at = path.lstat().st_mtime
    return made_at < time


def _move(path: Path, root: Path) -> Path | None:
    """Move a path to the same place under ``orphans/``; None where it has gone meanwhile."""
    place = root / DIRECTORY / path.relative_to(root)
    while place.exists():
        place = place.with_name(f"{place.name}-{ULID()}")
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.move(path, place)  # Which may be on another disk, where a part of the directory is a link.
    except FileNotFoundError:
        return None
    return place
