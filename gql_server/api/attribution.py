"""Which neurons are behind a token that a model writes."""

from typing import Annotated

import strawberry

from gql_server.api.common import (
    Conflict,
    InvalidInput,
    NotFound,
    QueueFull,
    argument,
    field,
    finite,
    object_type,
    one_of_input_type,
)
from gql_server.api.context import Info
from gql_server.api.exclusions import EXCLUDE_FIRST_POSITIONS, EXCLUDE_OUTLIERS
from gql_server.api.generation_outputs import TokenProbability
from gql_server.api.neurons import Neuron, neuron
from gql_server.api.pagination import unset_to_none
from gql_server.api.prompt_tokens import PromptToken, prompt_tokens
from gql_server.api.whole_lists import Numbers
from gql_server.protocol import events, results
from gql_server.services import attribution as attribution_service
from gql_server.services.requests import AttributeRequest, TokenRequest
from models import Sae as SaeRow


@one_of_input_type
class TokenInput:
    """A token that may follow a prompt."""

    text: str | None = strawberry.field(
        description='What it would add to the prompt, its space included, as in " Paris"; one token.'
    )
    token_id: int | None = strawberry.field(description="Its number in the vocabulary.")

    def request(self) -> TokenRequest:
        """Return what the service is asked for."""
        return TokenRequest(unset_to_none(self.text), unset_to_none(self.token_id))


@object_type
class AttributedNeuron:
    """What a neuron has to do with a token at a prompt's end; above 0 it favors the token."""

    neuron: Neuron = strawberry.field(description="The neuron.")
    effect: float = strawberry.field(
        description=(
            "An estimate of the next one for all neurons from one pass: latent times gradient, summed over"
            " tokens; in nats."
        )
    )
    ablation_effect: float | None = strawberry.field(
        description=(
            "The log-probability, or the difference, less what it is with this neuron's latents put to 0, as"
            " steering by multiplier 0 does; in nats. Null for neurons beyond ablate."
        )
    )
    activation: float = strawberry.field(description="Its highest activation on the prompt.")
    token_index: int = strawberry.field(description="At which token that is, counted from 0.")
    token_effects: list[float] = strawberry.field(
        description="The parts of effect, one a token: how much it favors the token by firing there."
    )


@object_type
class Attribution:
    """Neurons by their effect on a token at a prompt's end.

    Effects are on log-probability: the target's, less the contrast's where there is one.
    """

    prompt: str = strawberry.field(description="The prompt.")
    tokens: list[PromptToken] = strawberry.field(
        description="Its tokens, in order; of a chat, those of what the chat template has made of it."
    )
    target: TokenProbability = strawberry.field(description="The token that effects are on.")
    contrast: TokenProbability | None = strawberry.field(description="The other token, if asked for.")
    difference: float | None = strawberry.field(
        description=(
            "The target's log-probability less the contrast's, which is the difference of their logits. Null"
            " without a contrast."
        )
    )
    neurons: list[AttributedNeuron] = strawberry.field(
        description="The largest effects first, either way; ties by index. Without those of 0."
    )
    neurons_effect: float = strawberry.field(
        description="Sum of the effects of all neurons, the ones not listed among them."
    )
    error_effect: float = strawberry.field(
        description=(
            "The same of the SAE's error, gradient times what the SAE does not reconstruct: beside"
            " neuronsEffect, it says how much of the layer's effect no neuron explains."
        )
    )
    bias_effect: float = strawberry.field(
        description="The same of the SAE's reconstruction where no neuron fires, its decoder's bias."
    )
    left_out_effect: float = strawberry.field(
        description="The same of the whole output at special tokens and at those that are left out."
    )


AttributionResult = Annotated[
    Attribution | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union("AttributionResult", description="What attributing a token to neurons came to."),
]


def _token(found: events.TokenProbability) -> TokenProbability:
    return TokenProbability(token_id=found.token_id, text=found.text, log_probability=found.log_probability)


def _attribution(sae_row: SaeRow, found: results.AttributionResult) -> Attribution:
    target, contrast = found.target, found.contrast
    return Attribution(
        prompt=found.prompt,
        tokens=prompt_tokens(found.tokens),
        target=_token(target),
        contrast=None if contrast is None else _token(contrast),
        difference=None if contrast is None else target.log_probability - contrast.log_probability,
        neurons=[
            AttributedNeuron(
                neuron=neuron(sae_row, one.neuron_index),
                effect=one.effect,
                ablation_effect=finite(one.ablation_effect),
                activation=one.activation,
                token_index=one.token_index,
                token_effects=Numbers.of_float32(one.token_effects),
            )
            for one in found.neurons
        ],
        neurons_effect=found.neurons_effect,
        error_effect=found.error_effect,
        bias_effect=found.bias_effect,
        left_out_effect=found.left_out_effect,
    )


@strawberry.type
class AttributionQueries:
    """Queries for why a model says what it says."""

    @field
    async def attribute_neurons(
        self,
        info: Info,
        sae_id: Annotated[strawberry.ID, argument("ID of an SAE.")],
        prompt: Annotated[str, argument("The text that the token follows, at most 2,048 tokens.")],
        target: Annotated[
            TokenInput | None, argument("The token; the model's most probable one if left out.")
        ] = None,
        contrast: Annotated[
            TokenInput | None,
            argument("Another token: effects then are on the difference of both log-probabilities."),
        ] = None,
        first: Annotated[int, argument("How many neurons to give, 1 to 100.")] = 20,
        ablate: Annotated[
            int, argument("How many of them, the strongest, to put to 0 one by one as well, 0 to 50.")
        ] = 10,
        chat: Annotated[
            bool, argument("Put the prompt through the tokenizer's chat template as a user's message.")
        ] = False,
        exclude_first_positions: Annotated[int | None, argument(EXCLUDE_FIRST_POSITIONS)] = strawberry.UNSET,
        exclude_outliers: Annotated[float | None, argument(EXCLUDE_OUTLIERS)] = strawberry.UNSET,
    ) -> AttributionResult:
        """Says why a model writes a token after a prompt: the neurons that favor it, or its difference to
        another, and those that are against it. By latent times gradient with the SAE's error kept (Marks et
        al. 2024, Sparse Feature Circuits), and for the strongest also by ablating each.
        """
        request = AttributeRequest(
            sae_id=sae_id,
            prompt=prompt,
            target=target.request() if target else None,
            contrast=contrast.request() if contrast else None,
            first=first,
            ablate=ablate,
            chat=chat,
            exclude_first_positions=unset_to_none(exclude_first_positions),
            exclude_outliers=unset_to_none(exclude_outliers),
        )
        row, found = await attribution_service.attribute(info.context.server, request)
        return _attribution(row, found)
