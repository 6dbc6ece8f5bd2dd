"""Chosen neurons on every token of prompts."""

from typing import Annotated

import strawberry

from gql_server.api.common import Conflict, InvalidInput, NotFound, QueueFull, argument, field, object_type
from gql_server.api.context import Info
from gql_server.api.exclusions import EXCLUDE_FIRST_POSITIONS, EXCLUDE_OUTLIERS
from gql_server.api.neurons import Neuron, neuron
from gql_server.api.pagination import unset_to_none
from gql_server.api.prompt_tokens import CHAT, PromptToken, prompt_tokens
from gql_server.api.whole_lists import rows_of_float32
from gql_server.protocol import results
from gql_server.services import neuron_activations as neuron_activation_service
from models import Sae as SaeRow


@object_type
class NeuronActivationRow:
    """One neuron's activations on a prompt."""

    neuron: Neuron = strawberry.field(description="The neuron.")
    values: list[float] = strawberry.field(
        description=(
            "One a token, in the order of tokens: 0 where it does not fire, on special tokens and on those"
            " that are left out."
        )
    )
    max: float = strawberry.field(description="The highest of them; 0 where it fires on no token.")


@object_type
class PromptActivations:
    """Chosen neurons' activations on one prompt."""

    prompt: str = strawberry.field(description="The prompt.")
    tokens: list[PromptToken] = strawberry.field(
        description="Its tokens, in order; of a chat, those of what the chat template has made of it."
    )
    rows: list[NeuronActivationRow] = strawberry.field(description="In the order of neuronIndices.")


@object_type
class NeuronActivations:
    """Chosen neurons' activations on every token of prompts."""

    prompts: list[PromptActivations] = strawberry.field(description="In the order of the request.")


NeuronActivationsResult = Annotated[
    NeuronActivations | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union("NeuronActivationsResult", description="What asking for activations came to."),
]


def _prompt_activations(
    sae_row: SaeRow, indices: list[int], found: results.PromptLatentRows
) -> PromptActivations:
    rows = rows_of_float32(found.latents, len(indices))
    return PromptActivations(
        prompt=found.prompt,
        tokens=prompt_tokens(found.tokens),
        rows=[
            NeuronActivationRow(neuron=neuron(sae_row, index), values=values, max=max(values, default=0.0))
            for index, values in zip(indices, rows, strict=True)
        ],
    )


@strawberry.type
class NeuronActivationQueries:
    """Queries for what neurons do on prompts."""

    @field
    async def neuron_activations(
        self,
        info: Info,
        sae_id: Annotated[strawberry.ID, argument("ID of an SAE.")],
        prompts: Annotated[list[str], argument("Texts to run.")],
        neuron_indices: Annotated[list[int], argument("The neurons, 1 to 64, each once.")],
        chat: Annotated[bool, argument(CHAT)] = False,
        exclude_first_positions: Annotated[int | None, argument(EXCLUDE_FIRST_POSITIONS)] = strawberry.UNSET,
        exclude_outliers: Annotated[float | None, argument(EXCLUDE_OUTLIERS)] = strawberry.UNSET,
    ) -> NeuronActivationsResult:
        """Runs the prompts through the model and the SAE and gives chosen neurons' activations on every
        token, to test neurons with one's own text. Tokens of all prompts x neurons may be 131,072.
        """
        row, result = await neuron_activation_service.read(
            info.context.server,
            sae_id,
            prompts,
            neuron_indices,
            chat,
            unset_to_none(exclude_first_positions),
            unset_to_none(exclude_outliers),
        )
        return NeuronActivations(
            prompts=[_prompt_activations(row, neuron_indices, found) for found in result.prompts]
        )
