"""Neurons: what their index and their names say of them."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar, cast

import strawberry
from strawberry.dataloader import DataLoader

from gql_server import ids
from gql_server.api import concepts, saes
from gql_server.api.common import Node, argument, field, finite, object_type
from gql_server.api.context import Info
from gql_server.api.enums import NeuronOrder
from gql_server.api.histograms import Histogram, even_histogram, histogram_between
from gql_server.api.loaders import IndexedNeuron, NeighborsKey, NeuronsKey, NeuronTextsKey, PageOfNeurons
from gql_server.api.neuron_filters import NeuronFilter, OfNeurons, OrderBy, selection_of
from gql_server.api.neuron_pages import NeuronPlace, concepts_of_page, figure, statistics_of_page
from gql_server.api.neuron_texts import ExampleGroup, TopText, example_group, top_text, top_texts
from gql_server.api.pagination import Connection, connection, unset_to_none
from gql_server.api.references import ConceptRef, ConceptRevisionRef, SaeRef
from gql_server.api.token_effects import TokenEffect, check_ranked, token_effects
from gql_server.errors import InvalidInput
from gql_server.protocol import events
from gql_server.services import top_texts as text_service
from gql_server.services.cursors import check_first
from gql_server.services.neuron_selection import Neighbors
from gql_server.services.neuron_tensors import Ranked, StoredStatistics
from gql_server.services.neurons import NeuronQuery
from gql_server.services.top_texts import (
    MAX_CONTEXT,
    MAX_NEAR,
    MAX_SILENT,
    N_RANGES,
    PER_RANGE,
    TOKENS_AROUND,
)
from models import Concept as ConceptRow, Sae as SaeRow
from models.enums import ArtifactStatus

V = TypeVar("V")


@object_type
class SimilarNeuron:
    """A neuron whose decoder direction is near another's."""

    neuron: "Neuron" = strawberry.field(description="The neuron.")
    cosine: float = strawberry.field(description="Cosine of the two directions, -1 to 1.")


@object_type
class CorrelatedNeuron:
    """A neuron that fires together with another."""

    neuron: "Neuron" = strawberry.field(description="The neuron.")
    correlation: float = strawberry.field(
        description=(
            "Pearson correlation of the two activations over tokens, those on which they are 0 included."
        )
    )


@object_type
class SimilarNeuronText:
    """A text on which a neuron does not fire, though a similar one does."""

    neuron: "Neuron" = strawberry.field(description="The similar neuron.")
    text: TopText = strawberry.field(description="One of its top texts, with its activations.")


@object_type
class SteeringRange:
    """Biases for a slider that steers by a neuron, with multiplier 1."""

    suppress: float = strawberry.field(
        description="Turns the neuron off wherever it fires: its highest activation, negative."
    )
    typical: float = strawberry.field(
        description="What it fires with at its strongest: its highest activation, a good start."
    )
    strong: float = strawberry.field(
        description="Four times that, from where on texts mostly fall to pieces."
    )


@object_type
class Neuron(Node):
    """One unit of an SAE's hidden layer, elsewhere called a latent or feature; not an MLP neuron."""

    sae_row: strawberry.Private[SaeRow]
    statistics: strawberry.Private[StoredStatistics | None] = None
    """What the index says of it, where that has been read with its page."""
    concept_row: strawberry.Private[ConceptRow | None] = strawberry.UNSET
    """Its concept, or None, where that has been read with its page."""
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
    def concept(self, info: Info) -> ConceptRef | None:
        """What people or an import call it."""
        if self.concept_row is strawberry.UNSET:
            # Awaitable, which graphql-core finds out: it need not wait for each concept of a list.
            return cast(ConceptRef, concepts.concept_of(info, self.place))
        return concepts.concept(self.concept_row) if self.concept_row else None

    @field
    async def concept_history(self, info: Info) -> list[ConceptRevisionRef]:
        """What it is and was called, newest first, deletions among them: at most the last 20 versions, since
        names have a history, and of the earlier ones' names and notes at most 64 KiB.
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
        self,
        info: Info,
        first: Annotated[int, argument("How many texts to give, 1 to 100.")] = 5,
        context_tokens: Annotated[
            int,
            argument(
                "How many tokens to show on each side of the strongest one, 0 to 256: up to 16 with their"
                " activations, what is beyond as textBefore and textAfter."
            ),
        ] = TOKENS_AROUND,
    ) -> list[TopText] | None:
        """Strongest first, at most 100. Null, like the next ones, until it can be told; an error here leaves
        the rest of the answer.
        """
        check_first(first)
        check_context(context_tokens)
        return top_texts(await _texts(info, self, text_service.top_texts, first, context_tokens))

    @field
    async def example_groups(
        self,
        info: Info,
        bins: Annotated[int, argument("Into how many ranges to divide its activations at most, 1 to 8.")] = 6,
        per_bin: Annotated[int, argument("How many texts to give of each range at most, 1 to 5.")] = 5,
    ) -> list[ExampleGroup] | None:
        """Texts over the whole range of its activations, from 0 up to its highest: what a name has to hold
        for. None of them if it never fired. Null, like what follows, where an earlier version made the index:
        indexNeurons makes it anew.
        """
        check_first(bins, "bins", N_RANGES)
        check_first(per_bin, "perBin", PER_RANGE)
        found = await _texts(info, self, text_service.example_groups, bins, per_bin)
        return None if found is None else [example_group(group) for group in found]

    @field
    async def silent_texts(
        self, info: Info, first: Annotated[int, argument("How many texts to give, 1 to 20.")] = 5
    ) -> list[TopText] | None:
        """Texts drawn from the run on which it does not fire, of 64 that all neurons have in common."""
        check_first(first, maximum=MAX_SILENT)
        return top_texts(await _texts(info, self, text_service.silent_texts, first))

    @field
    async def similar_neuron_texts(
        self, info: Info, first: Annotated[int, argument("How many texts to give, 1 to 5.")] = 5
    ) -> list[SimilarNeuronText] | None:
        """Top texts of the most similar neurons on which this one does not fire at all."""
        check_first(first, maximum=MAX_NEAR)
        found = await _texts(info, self, text_service.near_texts, first)
        if found is None:
            return None
        return [
            SimilarNeuronText(neuron=neuron(self.sae_row, near.neuron), text=top_text(near.text))
            for near in found
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

    @field
    async def correlated_neurons(
        self, info: Info, first: Annotated[int, argument("How many neurons to give, 1 to 50.")] = 5
    ) -> list[CorrelatedNeuron] | None:
        """The neurons that fire together with it, by the correlation of activations over the index's tokens,
        or over a sample of its texts where it is large; those with correlations above 0.
        """
        check_ranked(first)
        found = await _ranked(info, self, info.context.loaders.correlated_neurons)
        if found is None:
            return None
        return [
            CorrelatedNeuron(neuron=neuron(self.sae_row, index), correlation=correlation)
            for index, correlation in found.entries(first)
        ]

    @field
    async def logit_histogram(self, info: Info) -> Histogram | None:
        """Of its direct effects on the logits of all output tokens, in 64 bins; promotedTokens says what an
        effect is.
        """
        index_id = await _ready_index_id(info, self)
        if index_id is None:
            return None
        found = await info.context.loaders.effect_histograms.load(IndexedNeuron(index_id, self.index))
        return None if found is None else histogram_between(found.low, found.high, found.counts)

    @field
    async def steering_range(self, info: Info) -> SteeringRange | None:
        """Sensible ends of a slider for steering; null if it never fired."""
        found = self.statistics or await info.context.loaders.neuron_statistics.load(self.place)
        highest = finite(found.max_activation) if found else None
        if not highest:
            return None
        return SteeringRange(suppress=-highest, typical=highest, strong=4 * highest)

    @field
    async def previous_index(
        self, info: Info, order_by: OrderBy = NeuronOrder.INDEX, filter: OfNeurons = strawberry.UNSET
    ) -> int | None:
        """The neuron before it in Sae.neurons with these arguments; it need not be in that list itself."""
        return (await _neighbors(info, self, order_by, filter)).previous

    @field
    async def next_index(
        self, info: Info, order_by: OrderBy = NeuronOrder.INDEX, filter: OfNeurons = strawberry.UNSET
    ) -> int | None:
        """The neuron behind it in that list."""
        return (await _neighbors(info, self, order_by, filter)).next


async def _neighbors(
    info: Info, neuron: Neuron, order: NeuronOrder, filter: NeuronFilter | None
) -> Neighbors:
    key = NeighborsKey(neuron.sae_row.id, neuron.index, selection_of(order, filter), neuron.sae_row)
    return await info.context.loaders.neighbors.load(key)


async def _texts(info: Info, neuron: Neuron, show: Callable[..., V], *args: int) -> V | None:
    """Return texts that the neuron's index names; None where they cannot be told."""
    key = NeuronTextsKey(neuron.sae_row.id, neuron.index, show, args)
    found: V | None = await info.context.loaders.neuron_texts.load(key)
    return found


def check_context(context_tokens: int) -> None:
    """Refuse more tokens than are shown of a text."""
    if not 0 <= context_tokens <= MAX_CONTEXT:
        message = f"contextTokens must be from 0 to {MAX_CONTEXT}; it is {context_tokens}."
        raise InvalidInput.at("contextTokens", message)


async def _ready_index_id(info: Info, neuron: Neuron) -> str | None:
    index = await info.context.loaders.neuron_indexes.load(neuron.sae_row.id)
    return index.id if index and index.status == ArtifactStatus.READY else None


async def _ranked(
    info: Info, neuron: Neuron, loader: DataLoader[IndexedNeuron, Ranked | None]
) -> Ranked | None:
    index_id = await _ready_index_id(info, neuron)
    return await loader.load(IndexedNeuron(index_id, neuron.index)) if index_id else None


def neuron(
    sae_row: SaeRow,
    index: int,
    statistics: StoredStatistics | None = None,
    concept_row: ConceptRow | None = strawberry.UNSET,
) -> Neuron:
    """Return a neuron of an SAE that has it."""
    id = strawberry.ID(ids.neuron_id(sae_row.id, index))
    return Neuron(id=id, sae_row=sae_row, index=index, statistics=statistics, concept_row=concept_row)


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
    offset: int | None,
) -> Connection[Neuron]:
    """Return a page of an SAE's neurons."""
    selection = selection_of(order, filter)
    query = NeuronQuery(first, unset_to_none(after), selection, unset_to_none(offset))
    found = await info.context.loaders.neuron_pages.load(NeuronsKey(sae_row.id, query, sae_row))

    page = PageOfNeurons(sae_row.id, tuple(found.page.items))
    statistics, named = await asyncio.gather(statistics_of_page(info, page), concepts_of_page(info, page))

    def make(index: int) -> Neuron:
        concept_row = strawberry.UNSET if named is None else named.get(index)
        return neuron(sae_row, index, statistics.get(index), concept_row)

    async def count() -> int:
        return found.count

    return connection(found.page, make, count)


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
