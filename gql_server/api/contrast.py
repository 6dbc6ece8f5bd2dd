"""Which neurons fire more on some texts than on others."""

from typing import Annotated

import strawberry

from gql_server.api.common import (
    Conflict,
    InvalidInput,
    NotFound,
    QueueFull,
    argument,
    field,
    object_type,
)
from gql_server.api.context import Info
from gql_server.api.exclusions import EXCLUDE_FIRST_POSITIONS, EXCLUDE_OUTLIERS
from gql_server.api.neurons import Neuron, neuron
from gql_server.api.pagination import unset_to_none
from gql_server.protocol import results
from gql_server.services import contrast as contrast_service
from models import Sae as SaeRow


@object_type
class ContrastedNeuron:
    """A neuron that fires more on one set of texts than on the other."""

    neuron: Neuron = strawberry.field(description="The neuron.")
    mean_activation_a: float = strawberry.field(
        description="Mean over all tokens of textsA that are neither padding nor special."
    )
    mean_activation_b: float = strawberry.field(description="The same of textsB.")
    difference: float = strawberry.field(
        description="meanActivationA less meanActivationB; above 0 in neurons, below 0 in neuronsB."
    )


@object_type
class ContrastedNeurons:
    """The neurons that fire more on one set of texts than on the other."""

    neurons: list[ContrastedNeuron] = strawberry.field(
        description="Those that fire more on the first set: the largest difference first, ties by index."
    )
    neurons_b: list[ContrastedNeuron] = strawberry.field(
        description=(
            "Those that fire more on the second set, as many at most: the lowest difference first, ties by"
            " index. They are the same, in the same order, as with the sets swapped."
        )
    )


ContrastNeuronsResult = Annotated[
    ContrastedNeurons | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union("ContrastNeuronsResult", description="What contrasting two sets of texts came to."),
]


@strawberry.type
class ContrastQueries:
    """Queries for what tells texts apart."""

    @field
    async def contrast_neurons(
        self,
        info: Info,
        sae_id: Annotated[strawberry.ID, argument("ID of an SAE.")],
        texts_a: Annotated[list[str], argument("Texts on which the neurons are to fire more.")],
        texts_b: Annotated[list[str], argument("Texts on which they are to fire less.")],
        first: Annotated[int, argument("How many neurons to give of each set, 1 to 100.")] = 10,
        exclude_first_positions: Annotated[int | None, argument(EXCLUDE_FIRST_POSITIONS)] = strawberry.UNSET,
        exclude_outliers: Annotated[float | None, argument(EXCLUDE_OUTLIERS)] = strawberry.UNSET,
    ) -> ContrastNeuronsResult:
        """Runs two sets of texts through the model and the SAE and gives the neurons whose mean activation
        per token is higher on the first, and those for which it is higher on the second.
        """
        row, result = await contrast_service.find(
            info.context.server,
            sae_id,
            texts_a,
            texts_b,
            first,
            unset_to_none(exclude_first_positions),
            unset_to_none(exclude_outliers),
        )
        return ContrastedNeurons(
            neurons=_contrasted(row, result.neurons), neurons_b=_contrasted(row, result.neurons_b)
        )


def _contrasted(sae_row: SaeRow, found: list[results.ContrastedNeuron]) -> list[ContrastedNeuron]:
    return [
        ContrastedNeuron(
            neuron=neuron(sae_row, one.neuron_index),
            mean_activation_a=one.mean_a,
            mean_activation_b=one.mean_b,
            difference=one.mean_a - one.mean_b,
        )
        for one in found
    ]
