"""Naming things anew."""

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.errors import Conflict, NotFound
from gql_server.services import concept_configs, lookup
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from models import ActivationRun, ConceptConfig, LanguageModel, Sae, StoredDataset

Named = LanguageModel | ActivationRun | Sae | ConceptConfig | StoredDataset

_TABLES: dict[str, type[Named]] = {
    ids.LANGUAGE_MODEL: LanguageModel,
    ids.ACTIVATION_RUN: ActivationRun,
    ids.SAE: Sae,
    ids.CONCEPT_CONFIG: ConceptConfig,
    ids.DATASET: StoredDataset,
}


async def rename(server: AppContext, id: str, name: str) -> Named:
    """Give a language model, activation run, SAE, concept config or dataset another name.

    Raises:
        InvalidInput: The name is empty or too long.
        Conflict: Another one has the name, where names are unique.
    """
    checks = Checks()
    checks.name("name", name)
    checks.done()
    table = _TABLES.get(ids.kind_of(id) or "")
    if table is None:
        raise NotFound("language model, activation run, SAE, concept config or dataset", id)
    async with server.database.write() as session:
        row = await lookup.get(session, table, id)
        await _check_free(session, row, name)
        row.name = name
        if isinstance(row, ConceptConfig):
            concept_configs.write_file(server.settings, row)
    return row


async def _check_free(session: AsyncSession, row: Named, name: str) -> None:
    query: Select[str]
    if isinstance(row, LanguageModel):
        query = select(LanguageModel.id).where(LanguageModel.name == name)
    elif isinstance(row, StoredDataset):
        query = select(StoredDataset.id).where(StoredDataset.name == name)
    elif isinstance(row, ConceptConfig):
        query = select(ConceptConfig.id).where(ConceptConfig.sae_id == row.sae_id, ConceptConfig.name == name)
    else:
        return
    other = await session.scalar(query)
    if other not in (None, row.id):
        raise Conflict(f"The name {name!r} is in use; choose another.", other)
