"""Finding rows by the IDs that clients send."""

from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.database.database import Database
from gql_server.errors import Conflict, NotFound
from models import ActivationRun, Base, Concept, ConceptConfig, Job, LanguageModel, Sae, StoredDataset
from models.enums import ArtifactStatus

Row = TypeVar("Row", bound=Base)

NAMES: dict[type[Base], str] = {
    LanguageModel: "language model",
    ActivationRun: "activation run",
    Sae: "SAE",
    Concept: "concept",
    ConceptConfig: "concept config",
    StoredDataset: "dataset",
    Job: "job",
}


async def find(database: Database, table: type[Row], id: str) -> Row | None:
    """Return the row with an ID, if any, in a session of its own."""
    async with database.read() as session:
        return await session.get(table, id)


async def get(session: AsyncSession, table: type[Row], id: str) -> Row:
    """Return the row with an ID.

    Raises:
        NotFound: There is none, or the ID is malformed or of another kind.
    """
    row = await session.get(table, id)
    if row is None:
        raise NotFound(NAMES[table], id)
    return row


def check_usable(run: ActivationRun) -> None:
    """Refuse a run of which nothing can be used; of a PARTIAL one, what is there can.

    Raises:
        Conflict: It says what it is and what to do.
    """
    if run.status != ArtifactStatus.PARTIAL:
        check_ready(run)
    elif run.token_count == 0:
        raise Conflict(
            f"The {NAMES[ActivationRun]} {run.name!r} is PARTIAL and still empty: retry its job.", run.id
        )


def check_ready(artifact: ActivationRun | Sae) -> None:
    """Refuse an artifact that is not complete.

    Raises:
        Conflict: It says what it is and what to do.
    """
    if artifact.status == ArtifactStatus.READY:
        return
    what = NAMES[type(artifact)]
    advice = {
        ArtifactStatus.PENDING: "wait for its job to end",
        ArtifactStatus.BUILDING: "wait for its job to end",
        ArtifactStatus.PARTIAL: "retry its job, or use another",
        ArtifactStatus.FAILED: "retry its job, or use another",
    }[artifact.status]
    raise Conflict(f"The {what} {artifact.name!r} is {artifact.status}, not READY: {advice}.", artifact.id)
