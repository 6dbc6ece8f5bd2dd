"""Concepts: names of neurons."""

import asyncio
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import strawberry

from gql_server.api import neurons, saes
from gql_server.api.common import (
    Conflict,
    Deleted,
    DeleteResult,
    InvalidInput,
    Node,
    NotFound,
    QueueFull,
    Upload,
    argument,
    describe_enum,
    field,
    finite,
    from_row,
    input_type,
    mutation,
    object_type,
    one_of_input_type,
    request_of,
)
from gql_server.api.context import Info
from gql_server.api.enums import ConceptSource
from gql_server.api.pagination import unset_to_none
from gql_server.api.references import NeuronRef, SaeRef
from gql_server.services import concept_imports, concepts as concept_service
from gql_server.services.requests import (
    ImportConceptsRequest,
    NamedNeuron,
    RestoreConceptRequest,
    SetConceptRequest,
    SetConceptsRequest,
)
from models import Concept as ConceptRow, ConceptRevision as ConceptRevisionRow

if TYPE_CHECKING:
    from starlette.datastructures import UploadFile

# --------------------------------------------------------------------------------- types


@object_type
class Concept(Node):
    """A name for what a neuron stands for."""

    row: strawberry.Private[ConceptRow]
    name: str = strawberry.field(description="The name.")
    score: float | None = strawberry.field(
        description="How sure its source is, 0 to 1 for MANUAL and GENERATED; as given for IMPORTED."
    )
    source: ConceptSource = strawberry.field(description="Who gave the name.")
    note: str | None = strawberry.field(description="Whatever else there is to say.")
    version: int = strawberry.field(
        description=(
            "1, and one more after each change of the neuron's concept, its deletion among them. What changes"
            " nothing is no change."
        )
    )
    created_at: datetime = strawberry.field(description="When the neuron got a name.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")

    @field
    async def sae(self, info: Info) -> SaeRef:
        """The SAE that the neuron belongs to."""
        return saes.sae(await saes.sae_row_of(info, self.row.sae_id))

    @field
    async def neuron(self, info: Info) -> NeuronRef:
        """The neuron that it names."""
        return neurons.neuron(await saes.sae_row_of(info, self.row.sae_id), self.row.neuron_index)


def concept(row: ConceptRow) -> Concept:
    """Return a row as it is shown."""
    return from_row(Concept, row, row=row, score=finite(row.score))


async def concept_of(info: Info, place: tuple[str, int]) -> Concept | None:
    """Return a neuron's concept, by its SAE's ID and its index."""
    row = await info.context.loaders.concepts.load(place)
    return concept(row) if row else None


@object_type
class ConceptRevision:
    """What a neuron's concept was, or is, at a version."""

    version: int = strawberry.field(description="The version, as Concept.version counts.")
    name: str | None = strawberry.field(description="The name; null where the concept was deleted.")
    score: float | None = strawberry.field(description="As Concept.score.")
    source: ConceptSource = strawberry.field(description="Who gave the name, or deleted it.")
    note: str | None = strawberry.field(description="Whatever else there was to say.")
    at: datetime = strawberry.field(description="When it got so.")


async def concept_history(info: Info, place: tuple[str, int]) -> list[ConceptRevision]:
    """Return what a neuron's concept is and was, newest first."""
    present, earlier = await asyncio.gather(
        info.context.loaders.concepts.load(place), info.context.loaders.concept_revisions.load(place)
    )
    if present is None:
        return [_revision(row, row.at) for row in earlier]
    # They are read one after the other, and it may have changed in between.
    before = [_revision(row, row.at) for row in earlier if row.version < present.version]
    return [_revision(present, present.updated_at), *before]


def _revision(row: ConceptRow | ConceptRevisionRow, at: datetime) -> ConceptRevision:
    return from_row(ConceptRevision, row, score=finite(row.score), at=at)


async def concept_if_any(info: Info, id: str) -> Concept | None:
    """Return the concept with an ID, if any."""
    row = await info.context.loaders.concepts_by_id.load(id)
    return concept(row) if row else None


@strawberry.type
class ConceptQueries:
    """Queries for concepts."""

    @field
    async def concept(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of a concept.")]
    ) -> Concept | None:
        """A concept; null if there is none with this ID."""
        return await concept_if_any(info, id)


# ------------------------------------------------------------------------------- mutations


class ImportMode(StrEnum):
    """What becomes of the concepts that are there."""

    MERGE = "MERGE"
    REPLACE = "REPLACE"


describe_enum(
    ImportMode,
    "A concept that a person has set (MANUAL) is never overwritten by an import.",
    {
        "MERGE": "Per neuron the concept with the higher score stays; a missing score is the lowest.",
        "REPLACE": "All IMPORTED and GENERATED concepts of the SAE go first.",
    },
)


@input_type
class SetConceptInput:
    """A neuron to name by hand."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE that the neuron belongs to.")
    neuron_index: int = strawberry.field(description="The neuron, counted from 0.")
    name: str = strawberry.field(description="The name.")
    score: float | None = strawberry.field(description="How sure you are, 0 to 1.")
    note: str | None = strawberry.field(description="Whatever else there is to say.")
    expected_version: int | None = strawberry.field(
        description=(
            "The version that the edit was made from; a Conflict if it has moved on."
            " Left out: last write wins."
        )
    )

    def request(self) -> SetConceptRequest:
        """Return what the service is asked for."""
        return SetConceptRequest(
            sae_id=self.sae_id,
            neuron_index=self.neuron_index,
            name=self.name,
            score=self.score,
            note=self.note,
            expected_version=self.expected_version,
        )


@one_of_input_type
class ConceptSourceInput:
    """Names of neurons, in one of the ways."""

    csv: str | None = strawberry.field(description="CSV with columns neuron_idx, concept_name, score.")
    json: str | None = strawberry.field(
        description=(
            'mi_crow\'s concepts.json: {"concepts": {"12": {"name": …, "score": …}}}; or JSON lines as of'
            " Neuronpedia's explanations, each with index, description and perhaps a score."
        )
    )
    upload: Upload | None = strawberry.field(description="A file of either kind, packed with gzip or not.")


@input_type
class ImportConceptsInput:
    """Names of neurons to take over."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE that the neurons belong to.")
    source: ConceptSourceInput = strawberry.field(description="The names.")
    mode: ImportMode = strawberry.field(
        default=ImportMode.MERGE, description="What becomes of the concepts that are there."
    )

    def request(self) -> ImportConceptsRequest:
        """Return what the service is asked for; an upload is read later."""
        mode: Literal["MERGE", "REPLACE"] = self.mode.value
        if self.source.csv is not None:
            return ImportConceptsRequest(self.sae_id, "csv", self.source.csv, mode)
        if self.source.json is not None:
            return ImportConceptsRequest(self.sae_id, "json", self.source.json, mode)
        assert self.source.upload is not None
        file: UploadFile = self.source.upload  # type: ignore[assignment]
        return ImportConceptsRequest(self.sae_id, None, file.file, mode)


@input_type
class NamedNeuronInput:
    """A neuron and its name."""

    neuron_index: int = strawberry.field(description="The neuron, counted from 0.")
    name: str = strawberry.field(description="The name.")
    score: float | None = strawberry.field(
        description="How sure the program is: 0 to 1, or any finite number for IMPORTED."
    )
    note: str | None = strawberry.field(description="Whatever else there is to say.")


@input_type
class SetConceptsInput:
    """Neurons that a program names."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE that the neurons belong to.")
    source: ConceptSource = strawberry.field(
        default=ConceptSource.GENERATED, description="GENERATED or IMPORTED."
    )
    concepts: list[NamedNeuronInput] = strawberry.field(
        description="1 to 500 neurons, each of them once; importConcepts takes more."
    )
    mode: ImportMode = strawberry.field(
        default=ImportMode.MERGE,
        description=(
            "MERGE: these neurons get the names, whatever the scores, but for MANUAL ones. REPLACE: all"
            " others' IMPORTED and GENERATED concepts go as well."
        ),
    )

    def request(self) -> SetConceptsRequest:
        """Return what the service is asked for."""
        concepts = [request_of(NamedNeuron, one) for one in self.concepts]
        return SetConceptsRequest(self.sae_id, self.source, concepts, self.mode.value)


@object_type
class ConceptSet:
    """The neuron has the name."""

    concept: Concept = strawberry.field(description="The concept as it is now.")


SetConceptResult = Annotated[
    ConceptSet | InvalidInput | NotFound | Conflict,
    strawberry.union("SetConceptResult", description="What naming a neuron came to."),
]


@object_type
class ConceptsImported:
    """The names have been taken over."""

    sae: SaeRef = strawberry.field(description="The SAE.")
    imported_count: int = strawberry.field(
        description="Rows whose neuron got the name, or had it already, with the same score, note and source."
    )
    skipped_count: int = strawberry.field(description="Rows whose neuron kept another concept.")


ImportConceptsResult = Annotated[
    ConceptsImported | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union("ImportConceptsResult", description="What importing concepts came to."),
]


@strawberry.type
class ConceptMutations:
    """Mutations of concepts."""

    @mutation
    async def set_concept(
        self, info: Info, input: Annotated[SetConceptInput, argument("The neuron and its name.")]
    ) -> SetConceptResult:
        """Names a neuron, or names it anew."""
        row = await concept_service.set_concept(info.context.server, input.request())
        return ConceptSet(concept=concept(row))

    @mutation
    async def set_concepts(
        self, info: Info, input: Annotated[SetConceptsInput, argument("The neurons and their names.")]
    ) -> ImportConceptsResult:
        """Names many neurons for a program that explains them; all of them, or none where one cannot be."""
        row, named, skipped = await concept_imports.set_concepts(info.context.server, input.request())
        return ConceptsImported(sae=saes.sae(row), imported_count=named, skipped_count=skipped)

    @mutation
    async def restore_concept(
        self,
        info: Info,
        sae_id: Annotated[strawberry.ID, argument("ID of the SAE that the neuron belongs to.")],
        neuron_index: Annotated[int, argument("The neuron, counted from 0.")],
        version: Annotated[int, argument("A version of the neuron's conceptHistory that has a name.")],
        expected_version: Annotated[
            int | None,
            argument("The version that is to be undone; a Conflict if the concept has another one by now."),
        ] = strawberry.UNSET,
    ) -> SetConceptResult:
        """Names a neuron as it was named before, with its score, source and note, as a new version."""
        request = RestoreConceptRequest(sae_id, neuron_index, version, unset_to_none(expected_version))
        return ConceptSet(concept=concept(await concept_service.restore(info.context.server, request)))

    @mutation
    async def delete_concept(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of the concept.")]
    ) -> DeleteResult:
        """Takes a neuron's name away; restoreConcept gives it back."""
        await concept_service.delete(info.context.server, id)
        return Deleted(deleted_id=id)

    @mutation
    async def import_concepts(
        self, info: Info, input: Annotated[ImportConceptsInput, argument("The names.")]
    ) -> ImportConceptsResult:
        """Takes over names of neurons from a file."""
        request = input.request()
        row, imported, skipped = await concept_imports.import_concepts(info.context.server, request)
        return ConceptsImported(sae=saes.sae(row), imported_count=imported, skipped_count=skipped)
