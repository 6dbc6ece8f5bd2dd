"""What neurons can be filtered by."""

from typing import Annotated

import strawberry

from gql_server.api.common import argument, input_type
from gql_server.api.enums import ConceptSource, NeuronOrder, NeuronSearchField
from gql_server.services.neuron_conditions import NeuronConditions
from gql_server.services.neurons import NeuronSelection


@input_type
class NeuronFilter:
    """Only neurons that fulfil all that is given."""

    dead: bool | None = strawberry.field(description="Whether they never fired in the index.")
    has_concept: bool | None = strawberry.field(description="Whether they have a name.")
    min_frequency: float | None = strawberry.field(description="They fire on at least this share of tokens.")
    max_frequency: float | None = strawberry.field(description="They fire on at most this share of tokens.")
    indices: list[int] | None = strawberry.field(
        description="They are among these, 1,000 at most; indices that the SAE lacks are left out.",
    )
    min_max_activation: float | None = strawberry.field(
        description="Their highest activation is at least this."
    )
    max_max_activation: float | None = strawberry.field(
        description="Their highest activation is at most this."
    )
    concept_source: list[ConceptSource] | None = strawberry.field(
        description="They have a name that came about in one of these ways."
    )
    search: str | None = strawberry.field(
        description=(
            "Every word of this, runs of letters and digits whatever their case, begins a word in one of the"
            " fields searchIn, each perhaps in another. 200 characters and 8 words at most. Blank asks"
            " nothing."
        ),
    )
    search_in: list[NeuronSearchField] | None = strawberry.field(
        description=(
            "Where to search; if left out, wherever it can be: in names and notes, and in what the neuron"
            " index has, if there is one."
        ),
    )

    def conditions(self) -> NeuronConditions:
        """Return what the service is asked for."""
        return NeuronConditions(
            dead=self.dead,
            has_concept=self.has_concept,
            min_frequency=self.min_frequency,
            max_frequency=self.max_frequency,
            min_max_activation=self.min_max_activation,
            max_max_activation=self.max_max_activation,
            indices=None if self.indices is None else tuple(self.indices),
            concept_sources=None if self.concept_source is None else tuple(self.concept_source),
            search=self.search,
            search_in=None if self.search_in is None else tuple(self.search_in),
        )


OrderBy = Annotated[NeuronOrder, argument("What they are ordered by.")]
OfNeurons = Annotated[NeuronFilter | None, argument("Only neurons that fulfil this.")]


def selection_of(order: NeuronOrder, filter: NeuronFilter | None) -> NeuronSelection:
    """Return what the service is asked for."""
    conditions = filter.conditions() if isinstance(filter, NeuronFilter) else NeuronConditions()
    return NeuronSelection(order, conditions)
