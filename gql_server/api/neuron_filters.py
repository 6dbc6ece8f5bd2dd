"""What neurons can be filtered by."""

import strawberry

from gql_server.api.common import input_type
from gql_server.services.neurons import NeuronConditions


@input_type
class NeuronFilter:
    """Only neurons that fulfil all that is given."""

    dead: bool | None = strawberry.field(description="Whether they never fired in the index.")
    has_concept: bool | None = strawberry.field(description="Whether they have a name.")
    min_frequency: float | None = strawberry.field(description="They fire on at least this share of tokens.")
    max_frequency: float | None = strawberry.field(description="They fire on at most this share of tokens.")

    def conditions(self) -> NeuronConditions:
        """Return what the service is asked for."""
        return NeuronConditions(
            dead=self.dead,
            has_concept=self.has_concept,
            min_frequency=self.min_frequency,
            max_frequency=self.max_frequency,
        )
