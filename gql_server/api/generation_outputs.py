"""What a generation gives."""

from enum import StrEnum

import strawberry

from gql_server.api.common import describe_enum, finite_number, object_type
from gql_server.api.neurons import NeuronActivation, neuron_activations
from gql_server.protocol import events
from models import Sae as SaeRow


class GenerationVariant(StrEnum):
    """With or without steering."""

    BASELINE = "BASELINE"
    STEERED = "STEERED"


describe_enum(
    GenerationVariant,
    "With or without steering.",
    {"BASELINE": "The model as it is.", "STEERED": "The model with the edits."},
)


class FinishReason(StrEnum):
    """Why an output ended."""

    LENGTH = "LENGTH"
    STOP = "STOP"
    END_OF_TEXT = "END_OF_TEXT"
    CANCELED = "CANCELED"


describe_enum(
    FinishReason,
    "Why an output ended.",
    {
        "LENGTH": "It has as many tokens as it may have.",
        "STOP": "One of the stop texts came up.",
        "END_OF_TEXT": "The model said that it was done.",
        "CANCELED": "It was stopped.",
    },
)


@object_type
class TokenProbability:
    """A token that could have stood in a generated one's place."""

    token_id: int = strawberry.field(description="Its number in the vocabulary.")
    text: str = strawberry.field(description="Its text.")
    log_probability: float = strawberry.field(description="Natural logarithm, under the model's own softmax.")


@object_type
class GeneratedToken:
    """One generated token."""

    index: int = strawberry.field(description="Its place in the output, counted from 0.")
    token_id: int = strawberry.field(description="Its number in the vocabulary.")
    text: str = strawberry.field(
        description=(
            "Its text. A character of several tokens comes whole with the last of them, and the others have "
            "none; bytes that make no character are U+FFFD."
        )
    )
    log_probability: float = strawberry.field(
        description="Natural logarithm, under the model's own softmax: no temperature, no truncation."
    )
    alternatives: list[TokenProbability] = strawberry.field(
        description="The most probable tokens in its place; as many as topLogProbabilities."
    )
    top_neurons: list[NeuronActivation] = strawberry.field(
        description=(
            "The neurons most active at the position whose logits it came from; empty without an SAE."
        )
    )
    watched: list[float] = strawberry.field(
        description=(
            "Activations at the same position, before edits, in the order of watchNeurons; 0 where a neuron"
            " does not fire."
        )
    )


@object_type
class GenerationOutput:
    """What was generated for one prompt in one variant."""

    prompt_index: int = strawberry.field(description="Which prompt it goes on from, counted from 0.")
    prompt: str = strawberry.field(description="That prompt.")
    variant: GenerationVariant = strawberry.field(description="With or without steering.")
    text: str = strawberry.field(description="The generated text alone.")
    tokens: list[GeneratedToken] = strawberry.field(description="The generated tokens, in order.")
    finish_reason: FinishReason = strawberry.field(description="Why it ended.")
    top_neurons: list[NeuronActivation] = strawberry.field(
        description=(
            "The neurons with the highest activation over prompt and output, before edits, in this variant's"
            " own forward pass; empty without an SAE."
        )
    )
    watched: list[list[float]] = strawberry.field(
        description=(
            "Activations on each token of the prompt, then of the output, before edits, in the order of"
            " watchNeurons. Special and excluded tokens have zeros."
        )
    )
    elapsed_milliseconds: float = strawberry.field(
        description="How long it took; 0 of a baseline that an earlier request had made."
    )


def generated_token(sae_row: SaeRow | None, token: events.GeneratedToken) -> GeneratedToken:
    """Return a worker's token as it is shown."""
    return GeneratedToken(
        index=token.index,
        token_id=token.token_id,
        text=token.text,
        log_probability=finite_number(token.log_probability),
        alternatives=[
            TokenProbability(
                token_id=other.token_id,
                text=other.text,
                log_probability=finite_number(other.log_probability),
            )
            for other in token.alternatives
        ],
        top_neurons=neuron_activations(sae_row, token.top_neurons),
        watched=[finite_number(value) for value in token.watched],
    )


def generation_output(sae_row: SaeRow | None, output: events.OutputFinished) -> GenerationOutput:
    """Return a worker's output as it is shown."""
    return GenerationOutput(
        prompt_index=output.prompt_index,
        prompt=output.prompt,
        variant=GenerationVariant(output.variant),
        text=output.text,
        tokens=[generated_token(sae_row, token) for token in output.tokens],
        finish_reason=FinishReason(output.finish_reason),
        top_neurons=neuron_activations(sae_row, output.top_neurons),
        watched=[[finite_number(value) for value in values] for values in output.watched],
        elapsed_milliseconds=finite_number(output.elapsed_milliseconds),
    )
