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
from gql_server.services import contrast as contrast_service


@object_type
class ContrastedNeuron:
    """Neurons ordered by how much more they fire on the first set of texts than on the second."""

    neuron: Neuron = strawberry.field(description="The neuron.")
    mean_activation_a: float = strawberry.field(
        description="Mean over all tokens of textsA that are neither padding nor special."
    )
    mean_activation_b: float = strawberry.field(description="The same of textsB.")
    difference: float = strawberry.field(description="meanActivationA less meanActivationB; above 0.")


@object_type
class ContrastedNeurons:
    """The neurons that fire more on the first set of texts than on the second."""

    neurons: list[ContrastedNeuron] = strawberry.field(
        description="The largest difference first, ties by index. For the other way round, swap the sets."
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
        first: Annotated[int, argument("How many neurons to give, 1 to 100.")] = 10,
        exclude_first_positions: Annotated[int | None, argument(EXCLUDE_FIRST_POSITIONS)] = strawberry.UNSET,
        exclude_outliers: Annotated[float | None, argument(EXCLUDE_OUTLIERS)] = strawberry.UNSET,
    ) -> ContrastNeuronsResult:
        """Runs two sets of texts through the model and the SAE and gives the neurons whose mean activation
        per token is higher on the first.
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
            neurons=[
                ContrastedNeuron(
                    neuron=neuron(row, found.neuron_index),
                    mean_activation_a=found.mean_a,
                    mean_activation_b=found.mean_b,
                    difference=found.mean_a - found.mean_b,
                )
                for found in result.neurons
            ]
        )
