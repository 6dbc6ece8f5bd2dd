"""Concept configs: named sets of edits to an SAE's latents."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import strawberry

from gql_server.api import neurons, saes
from gql_server.api.common import (
    Conflict,
    Deleted,
    DeleteResult,
    InvalidInput,
    Node,
    NotFound,
    argument,
    field,
    finite_number,
    from_row,
    input_type,
    mutation,
    object_type,
)
from gql_server.api.context import Info
from gql_server.api.references import NeuronRef, SaeRef
from gql_server.services import concept_configs as concept_config_service
from gql_server.services.requests import EditRequest, SaveConceptConfigRequest
from models import ConceptConfig as ConceptConfigRow, Sae as SaeRow

# --------------------------------------------------------------------------------- types


@object_type
class ConceptEdit:
    """latent → latent * multiplier + bias, on this neuron alone."""

    neuron: NeuronRef = strawberry.field(description="The neuron.")
    multiplier: float = strawberry.field(description="What its latent is multiplied by.")
    bias: float = strawberry.field(description="What is added to it then.")


@object_type
class ConceptConfig(Node):
    """A named set of edits to an SAE's latents: how to steer."""

    row: strawberry.Private[ConceptConfigRow]
    name: str = strawberry.field(description="A name for people, unique among the SAE's configs.")
    version: int = strawberry.field(description="1, and one more after each change.")
    path: str = strawberry.field(description="Its JSON file, relative to the artifact directory.")
    created_at: datetime = strawberry.field(description="When it was saved first.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")

    @field
    async def sae(self, info: Info) -> SaeRef:
        """The SAE whose latents it edits."""
        return saes.sae(await saes.sae_row_of(info, self.row.sae_id))

    @field
    async def edits(self, info: Info) -> list[ConceptEdit]:
        """What is done to which neuron, sorted by neuron."""
        sae_row = await saes.sae_row_of(info, self.row.sae_id)
        return concept_edits(sae_row, [EditRequest(**edit) for edit in self.row.edits])


def concept_config(row: ConceptConfigRow) -> ConceptConfig:
    """Return a row as it is shown."""
    return from_row(ConceptConfig, row, row=row)


def concept_edits(sae_row: SaeRow, edits: Sequence[EditRequest]) -> list[ConceptEdit]:
    """Return edits of an SAE's latents as they are shown."""
    return [
        ConceptEdit(
            neuron=neurons.neuron(sae_row, edit.neuron_index),
            multiplier=finite_number(edit.multiplier),
            bias=finite_number(edit.bias),
        )
        for edit in edits
    ]


async def concept_config_if_any(info: Info, id: str) -> ConceptConfig | None:
    """Return the config with an ID, if any."""
    row = await info.context.loaders.concept_configs.load(id)
    return concept_config(row) if row else None


@strawberry.type
class ConceptConfigQueries:
    """Queries for concept configs."""

    @field
    async def concept_config(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of a concept config.")]
    ) -> ConceptConfig | None:
        """A concept config; null if there is none with this ID."""
        return await concept_config_if_any(info, id)


# ------------------------------------------------------------------------------- mutations


@input_type
class ConceptEditInput:
    """latent * multiplier + bias, at every position that is neither padding nor special."""

    neuron_index: int = strawberry.field(description="The neuron, counted from 0.")
    multiplier: float = strawberry.field(default=1.0, description="What to multiply its latent by.")
    bias: float = strawberry.field(default=0.0, description="What to add to it then.")

    def request(self) -> EditRequest:
        """Return what the service is asked for."""
        return EditRequest(self.neuron_index, self.multiplier, self.bias)


@input_type
class SaveConceptConfigInput:
    """A concept config to create or replace."""

    id: strawberry.ID | None = strawberry.field(description="The config to replace; a new one if left out.")
    sae_id: strawberry.ID = strawberry.field(description="The SAE whose latents it edits.")
    name: str = strawberry.field(description="Unique among the SAE's configs.")
    edits: list[ConceptEditInput] = strawberry.field(description="What to do to which neuron.")
    expected_version: int | None = strawberry.field(
        description=(
            "The version that the edit was made from; a Conflict if it has moved on."
            " Left out: last write wins."
        )
    )
    validate_only: bool = strawberry.field(default=False, description="Check and normalise without saving.")

    def request(self) -> SaveConceptConfigRequest:
        """Return what the service is asked for."""
        return SaveConceptConfigRequest(
            id=self.id,
            sae_id=self.sae_id,
            name=self.name,
            edits=[edit.request() for edit in self.edits],
            expected_version=self.expected_version,
            validate_only=self.validate_only,
        )


@object_type
class ConceptConfigSaved:
    """The config is saved, or could be."""

    concept_config: ConceptConfig | None = strawberry.field(description="Null where only validated.")
    edits: list[ConceptEdit] = strawberry.field(
        description="The edits as they are applied: sorted by neuron, those without effect left out."
    )


SaveConceptConfigResult = Annotated[
    ConceptConfigSaved | InvalidInput | NotFound | Conflict,
    strawberry.union("SaveConceptConfigResult", description="What saving a concept config came to."),
]


@strawberry.type
class ConceptConfigMutations:
    """Mutations of concept configs."""

    @mutation
    async def save_concept_config(
        self, info: Info, input: Annotated[SaveConceptConfigInput, argument("The config.")]
    ) -> SaveConceptConfigResult:
        """Creates a config, or replaces the edits of one; validateOnly checks and normalises without
        saving.
        """
        row, edits, sae_row = await concept_config_service.save(info.context.server, input.request())
        saved = concept_config(row) if row else None
        return ConceptConfigSaved(concept_config=saved, edits=concept_edits(sae_row, edits))

    @mutation
    async def delete_concept_config(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of the concept config.")]
    ) -> DeleteResult:
        """Deletes a config with its file."""
        await concept_config_service.delete(info.context.server, id)
        return Deleted(deleted_id=id)
