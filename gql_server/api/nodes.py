"""Anything by its ID, and naming things anew."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import strawberry

from gql_server import errors, ids
from gql_server.api.activation_runs import activation_run, activation_run_of
from gql_server.api.common import (
    Conflict,
    InvalidInput,
    Node,
    NotFound,
    argument,
    field,
    mutation,
    object_type,
)
from gql_server.api.concept_configs import concept_config, concept_config_if_any
from gql_server.api.concepts import concept_if_any
from gql_server.api.context import Info
from gql_server.api.jobs import job_of
from gql_server.api.language_models import language_model
from gql_server.api.neurons import neuron_if_any
from gql_server.api.saes import sae
from gql_server.api.stored_datasets import stored_dataset, stored_dataset_of
from gql_server.services import names
from gql_server.services.cursors import MAX_FIRST
from models import ActivationRun, ConceptConfig, LanguageModel, Sae, StoredDataset


async def node_of(info: Info, id: str) -> Node | None:
    """Return whatever has the ID, or None."""
    loaders = info.context.loaders
    match ids.kind_of(id):
        case ids.LANGUAGE_MODEL:
            language_model_row = await loaders.language_models.load(id)
            return language_model(language_model_row) if language_model_row else None
        case ids.ACTIVATION_RUN:
            return await activation_run_of(info, id)
        case ids.SAE:
            sae_row = await loaders.saes.load(id)
            return sae(sae_row) if sae_row else None
        case ids.NEURON:
            return await _neuron(info, id)
        case ids.CONCEPT:
            return await concept_if_any(info, id)
        case ids.CONCEPT_CONFIG:
            return await concept_config_if_any(info, id)
        case ids.DATASET:
            return await stored_dataset_of(info, id)
        case ids.JOB:
            return await job_of(info, id)
    return None


async def _neuron(info: Info, id: str) -> Node | None:
    parsed = ids.parse_neuron_id(id)
    if parsed is None:
        return None
    sae_id, index = parsed
    sae_row = await info.context.loaders.saes.load(sae_id)
    return neuron_if_any(sae_row, index) if sae_row else None


def named_node(row: names.Named) -> Node:
    """Return a row that people name as it is shown."""
    match row:
        case LanguageModel():
            return language_model(row)
        case ActivationRun():
            return activation_run(row)
        case Sae():
            return sae(row)
        case ConceptConfig():
            return concept_config(row)
        case StoredDataset():
            return stored_dataset(row)


async def nodes_of(info: Info, node_ids: Sequence[str]) -> list[Node | None]:
    """Return whatever has each ID, or None; what is of one kind is read at once."""
    return list(await asyncio.gather(*(node_of(info, id) for id in node_ids)))


@strawberry.type
class NodeQueries:
    """Queries for anything."""

    @field
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, argument("The ID of whatever it is.")]
    ) -> Node | None:
        """Anything by its ID; null if there is nothing with it."""
        return await node_of(info, id)

    @field
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], argument("The IDs, 100 at most.")]
    ) -> list[Node | None]:
        """Anything by its ID, in the order of the IDs; null where there is nothing with it."""
        if len(ids) > MAX_FIRST:
            raise errors.InvalidInput.at("ids", f"Give at most {MAX_FIRST} IDs, not {len(ids):,}.")
        return await nodes_of(info, ids)


@object_type
class Renamed:
    """It has the new name."""

    node: Node = strawberry.field(description="What was renamed, as it is now.")


RenameResult = Annotated[
    Renamed | InvalidInput | NotFound | Conflict,
    strawberry.union("RenameResult", description="What renaming came to."),
]


@strawberry.type
class NodeMutations:
    """Mutations of anything."""

    @mutation
    async def rename(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("ID of what to rename.")],
        name: Annotated[str, argument("The new name.")],
    ) -> RenameResult:
        """Names a language model, activation run, SAE, concept config or dataset anew."""
        return Renamed(node=named_node(await names.rename(info.context.server, id, name)))
