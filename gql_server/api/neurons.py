"""Neurons: what their index and their names say of them."""

import math
from typing import Annotated

import strawberry
from strawberry.dataloader import DataLoader

from gql_server import ids
from gql_server.api import concepts, saes
from gql_server.api.common import Node, argument, field, finite, object_type
from gql_server.api.context import Info
from gql_server.api.histograms import Histogram, even_histogram
from gql_server.api.loaders import IndexedNeuron, NeuronsKey, TopTextsKey
from gql_server.api.neuron_filters import NeuronFilter
from gql_server.api.neuron_statistics import NeuronPlace, figure, statistics_of_page
from gql_server.api.pagination import Connection, connection, unset_to_none
from gql_server.api.references import ConceptRef, ConceptRevisionRef, SaeRef
from gql_server.api.token_effects import TokenEffect, check_ranked, token_effects
from gql_server.protocol import events
from gql_server.services.cursors import check_first
from gql_server.services.neuron_tensors import Ranked, StoredStatistics
from gql_server.services.neurons import NeuronConditions, NeuronOrder, NeuronQuery
from models import Sae as SaeRow
from models.enums import ArtifactStatus


@object_type
class TokenActivation:
    """A token, and how strongly a neuron fires on it."""

    token: str = strawberry.field(description="The token's text.")
    activation: float = strawberry.field(description="0 where the neuron does not fire.")


@object_type
class TopText:
    """A stretch of text on which a neuron fires strongly."""

    text: str = strawberry.field(description="The stretch.")
    score: float = strawberry.field(description="The highest activation in it.")
    token_index: int = strawberry.field(
        description=(
            "Where that is in the whole text as it was captured, or in the piece of it, counted in tokens"
            " from 0; the stretch may begin later: peakIndex counts in it."
        )
    )
    peak_index: int = strawberry.field(description="Where that is in tokens, counted from 0.")
    text_count: int | None = strawberry.field(
        description=(
            "In how many texts of the run, or pieces of texts, this very stretch stands; it is shown once."
            " Null where an earlier version made the index, which may show it several times."
        )
    )
    text_index: int = strawberry.field(description="The text's place in the run's dataset, from 0.")
    piece_index: int = strawberry.field(
        description="Which piece of the text it is in, from 0; always 0 where long texts are not split."
    )
    token: str = strawberry.field(description="The token that it is on.")
    tokens: list[TokenActivation] = strawberry.field(
        description="Every token of the stretch with the neuron's activation on it."
    )


@object_type
class SimilarNeuron:
    """A neuron whose decoder direction is near another's."""

    neuron: "Neuron" = strawberry.field(description="The neuron.")
    cosine: float = strawberry.field(description="Cosine of the two directions, -1 to 1.")


@object_type
class Neuron(Node):
    """One unit of an SAE's hidden layer, elsewhere called a latent or feature; not an MLP neuron."""

    sae_row: strawberry.Private[SaeRow]
    statistics: strawberry.Private[StoredStatistics | None] = None
    """What the index says of it, where that has been read with its page."""
    index: int = strawberry.field(description="Its place in the hidden layer, counted from 0.")

    @property
    def place(self) -> NeuronPlace:
        """Its SAE's ID and its index."""
        return self.sae_row.id, self.index

    @field
    def sae(self) -> SaeRef:
        """The SAE that it is a unit of."""
        return saes.sae(self.sae_row)

    @field
    async def concept(self, info: Info) -> ConceptRef | None:
        """What people or an import call it."""
        row = await info.context.loaders.concepts.load(self.place)
        return concepts.concept(row) if row else None

    @field
    async def concept_history(self, info: Info) -> list[ConceptRevisionRef]:
        """What it is and was called, newest first, deletions among them: at most the last 20 versions, since
        names have a history.
        """
        return await concepts.concept_history(info, self.place)

    @field
    def frequency(self, info: Info) -> float | None:
        """Share of tokens on which it fires. Null, like the next ones, until the SAE has been indexed."""
        return figure(info, self.place, self.statistics, lambda found: finite(found.frequency))

    @field
    def max_activation(self, info: Info) -> float | None:
        """Its highest activation; 0 if it never fired."""
        return figure(info, self.place, self.statistics, lambda found: finite(found.max_activation))

    @field
    def mean_activation(self, info: Info) -> float | None:
        """Mean over the tokens on which it fires."""
        return figure(info, self.place, self.statistics, lambda found: finite(found.mean_activation))

    @field
    def dead(self, info: Info) -> bool | None:
        """Whether it never fired."""
        return figure(info, self.place, self.statistics, lambda found: found.firing_count == 0)

    @field
    async def activation_histogram(self, info: Info) -> Histogram | None:
        """Of its non-zero activations."""
        index_id = await _ready_index_id(info, self)
        if index_id is None:
            return None
        of_neuron = await info.context.loaders.neuron_histograms.load(IndexedNeuron(index_id, self.index))
        return even_histogram(of_neuron.limit, of_neuron.counts)

    @field
    async def top_texts(
        self, info: Info, first: Annotated[int, argument("How many texts to give, 1 to 100.")] = 5
    ) -> list[TopText] | None:
        """Strongest first, at most 100. Null, like the next ones, until it can be told; an error here leaves
        the rest of the answer.
        """
        index_id = await _ready_index_id(info, self)
        check_first(first)
        found = None
        if index_id:
            found = await info.context.loaders.top_texts.load(TopTextsKey(index_id, self.index, first))
        if found is None or not all(math.isfinite(text.score) for text in found):
            return None
        return [
            TopText(
                text=text.text,
                score=text.score,
                token_index=text.token_index,
                peak_index=text.peak_index,
                text_count=text.text_count,
                text_index=text.row,
                piece_index=text.piece,
                token=text.token,
                tokens=[
                    TokenActivation(token=token, activation=activation) for token, activation in text.tokens
                ],
            )
            for text in found
        ]

    @field
    async def promoted_tokens(
        self, info: Info, first: Annotated[int, argument("How many tokens to give, 1 to 50.")] = 10
    ) -> list[TokenEffect] | None:
        """The output tokens that its decoder direction raises most, by direct effect on the logits."""
        check_ranked(first)
        found = await _ranked(info, self, info.context.loaders.promoted_tokens)
        return await token_effects(info, self.sae_row.language_model_id, found, first)

    @field
    async def suppressed_tokens(
        self, info: Info, first: Annotated[int, argument("How many tokens to give, 1 to 50.")] = 10
    ) -> list[TokenEffect] | None:
        """The output tokens that its decoder direction lowers most, by direct effect on the logits."""
        check_ranked(first)
        found = await _ranked(info, self, info.context.loaders.suppressed_tokens)
        return await token_effects(info, self.sae_row.language_model_id, found, first)

    @field
    async def similar_neurons(
        self, info: Info, first: Annotated[int, argument("How many neurons to give, 1 to 50.")] = 5
    ) -> list[SimilarNeuron] | None:
        """The neurons whose decoder directions are nearest, by cosine."""
        check_ranked(first)
        found = await _ranked(info, self, info.context.loaders.similar_neurons)
        if found is None:
            return None
        return [
            SimilarNeuron(neuron=neuron(self.sae_row, index), cosine=cosine)
            for index, cosine in found.entries(first)
        ]


async def _ready_index_id(info: Info, neuron: Neuron) -> str | None:
    index = await info.context.loaders.neuron_indexes.load(neuron.sae_row.id)
    return index.id if index and index.status == ArtifactStatus.READY else None


async def _ranked(
    info: Info, neuron: Neuron, loader: DataLoader[IndexedNeuron, Ranked | None]
) -> Ranked | None:
    index_id = await _ready_index_id(info, neuron)
    return await loader.load(IndexedNeuron(index_id, neuron.index)) if index_id else None


def neuron(sae_row: SaeRow, index: int, statistics: StoredStatistics | None = None) -> Neuron:
    """Return a neuron of an SAE that has it."""
    id = strawberry.ID(ids.neuron_id(sae_row.id, index))
    return Neuron(id=id, sae_row=sae_row, index=index, statistics=statistics)


def neuron_if_any(sae_row: SaeRow, index: int) -> Neuron | None:
    """Return a neuron of an SAE, or None where the SAE has no such index."""
    return neuron(sae_row, index) if 0 <= index < (sae_row.latent_count or 0) else None


async def neuron_connection(
    info: Info,
    sae_row: SaeRow,
    first: int,
    after: str | None,
    order: NeuronOrder,
    filter: NeuronFilter | None,
) -> Connection[Neuron]:
    """Return a page of an SAE's neurons."""
    conditions = filter.conditions() if isinstance(filter, NeuronFilter) else NeuronConditions()
    query = NeuronQuery(first, unset_to_none(after), order, conditions)
    found = await info.context.loaders.neuron_pages.load(NeuronsKey(sae_row.id, query, sae_row))

    statistics = await statistics_of_page(info, sae_row.id, found.page.items)

    async def count() -> int:
        return found.count

    return connection(found.page, lambda index: neuron(sae_row, index, statistics.get(index)), count)


# --------------------------------------------------------------- what fires on given texts


@object_type
class NeuronActivation:
    """How strongly a neuron fires on a prompt."""

    neuron: Neuron = strawberry.field(description="The neuron.")
    activation: float = strawberry.field(description="How strongly it fires.")
    token_index: int | None = strawberry.field(
        description=(
            "Where it is strongest, counted in tokens of prompt and output; null for a single token's list."
        )
    )


def neuron_activations(
    sae_row: SaeRow | None, activations: list[events.NeuronActivationMessage]
) -> list[NeuronActivation]:
    """Return what a worker reports of an SAE's neurons as it is shown; nothing without an SAE."""
    if sae_row is None:
        return []
    return [
        NeuronActivation(
            neuron=neuron(sae_row, found.neuron_index),
            activation=found.activation,
            token_index=found.token_index,
        )
        for found in activations
    ]


# --------------------------------------------------------------------------------- queries


@strawberry.type
class NeuronQueries:
    """Queries for neurons."""

    @field
    async def neuron(
        self,
        info: Info,
        sae_id: Annotated[strawberry.ID, argument("ID of an SAE.")],
        index: Annotated[int, argument("Counted from 0.")],
    ) -> Neuron | None:
        """A neuron; null if the SAE or the index does not exist."""
        row = await info.context.loaders.saes.load(sae_id)
        return neuron_if_any(row, index) if row else None
