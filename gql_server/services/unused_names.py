"""Names that the server makes, where nobody has given one: no two are the same."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.services.checks import MAX_NAME_LENGTH
from models import ActivationRun, Sae, StoredDataset

_NUMBER_CHARACTERS = 10
"""Room for the number of a name that is in use."""


async def unused_name(
    session: AsyncSession, table: type[ActivationRun] | type[Sae] | type[StoredDataset], name: str
) -> str:
    """Return a name that no row of the table has: as it is, else with the first free number, "name (2)"."""
    begin = name[: MAX_NAME_LENGTH - _NUMBER_CHARACTERS]
    taken = set(
        await session.scalars(select(table.name).where(table.name.startswith(begin, autoescape=True)))
    )
    number = 1
    while (found := name if number == 1 else f"{begin} ({number})") in taken:
        number += 1
    return found
