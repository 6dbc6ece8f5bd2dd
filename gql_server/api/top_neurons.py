"""Which neurons fire most on prompts."""

from typing import Annotated

import strawberry

from gql_server.api.common import Conflict, InvalidInput, NotFound, QueueFull, argument, field, object_type
from gql_server.api.context import Info
from gql_server.api.exclusions import EXCLUDE_FIRST_POSITIONS, EXCLUDE_OUTLIERS
from gql_server.api.neurons import NeuronActivation, neuron_activations
from gql_server.api.pagination import unset_to_none
from gql_server.api.prompt_tokens import CHAT, PromptToken, prompt_tokens
from gql_server.protocol import results
from gql_server.services import top_neurons as top_neuron_service
from models import Sae as SaeRow


@object_type
class TokenNeurons:
    """The neurons that fire most on one token."""

    token_index: int = strawberry.field(description="The token's place in the prompt, counted from 0.")
    token: str = strawberry.field(description="The token's text.")
    neurons: list[NeuronActivation] = strawberry.field(description="Strongest first.")


@object_type
class PromptNeurons:
    """The neurons that fire most on one prompt."""

    prompt: str = strawberry.field(description="The prompt.")
    tokens: list[PromptToken] = strawberry.field(
        description="Its tokens, in order; of a chat, those of what the chat template has made of it."
    )
    neurons: list[NeuronActivation] = strawberry.field(
        description="The neurons with the highest activation anywhere in the prompt."
    )
    per_token: list[TokenNeurons] = strawberry.field(
        description="The same, token by token, in the order of tokens; empty unless asked for."
    )


@object_type
class TopNeurons:
    """The neurons that fire most on each prompt."""

    prompts: list[PromptNeurons] = strawberry.field(description="In the order of the request.")


TopNeuronsResult = Annotated[
    TopNeurons | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union("TopNeuronsResult", description="What asking for top neurons came to."),
]


def _prompt_neurons(sae_row: SaeRow, found: results.PromptNeurons) -> PromptNeurons:
    return PromptNeurons(
        prompt=found.prompt,
        tokens=prompt_tokens(found.tokens),
        neurons=neuron_activations(sae_row, found.neurons),
        per_token=[
            TokenNeurons(
                token_index=token.token_index,
                token=token.token,
                neurons=neuron_activations(sae_row, token.neurons),
            )
            for token in found.per_token
        ],
    )


@strawberry.type
class TopNeuronQueries:
    """Queries for the neurons that fire on prompts."""

    @field
    async def top_neurons(
        self,
        info: Info,
        sae_id: Annotated[strawberry.ID, argument("ID of an SAE.")],
        prompts: Annotated[list[str], argument("Texts to run.")],
        first: Annotated[int, argument("How many neurons to give per prompt and token, 1 to 100.")] = 10,
        per_token: Annotated[bool, argument("Also give the neurons token by token.")] = False,
        chat: Annotated[bool, argument(CHAT)] = False,
        exclude_first_positions: Annotated[int | None, argument(EXCLUDE_FIRST_POSITIONS)] = strawberry.UNSET,
        exclude_outliers: Annotated[float | None, argument(EXCLUDE_OUTLIERS)] = strawberry.UNSET,
    ) -> TopNeuronsResult:
        """Runs the prompts through the model and the SAE and gives the neurons that fire most. prompts x
        tokens x first may be 20,000 with perToken.
        """
        row, result = await top_neuron_service.find(
            info.context.server,
            sae_id,
            prompts,
            first,
            per_token,
            unset_to_none(exclude_first_positions),
            unset_to_none(exclude_outliers),
            chat,
        )
        return TopNeurons(prompts=[_prompt_neurons(row, found) for found in result.prompts])
