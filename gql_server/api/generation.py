"""Generating text, steered or not, at once or token by token."""

from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from gql_server import errors
from gql_server.api import refusals, saes
from gql_server.api.common import (
    Conflict,
    InvalidInput,
    NotFound,
    QueueFull,
    argument,
    closing,
    object_type,
    stoppable_mutation,
    subscription,
)
from gql_server.api.context import Info
from gql_server.api.generation_inputs import GenerateInput
from gql_server.api.generation_outputs import (
    GeneratedToken,
    GenerationOutput,
    GenerationVariant,
    generated_token,
    generation_output,
)
from gql_server.api.neuron_indexes import top_texts_url
from gql_server.api.prompt_tokens import PromptToken, prompt_tokens
from gql_server.api.references import SaeRef
from gql_server.protocol import events
from gql_server.services import generation as generation_service
from models import Sae as SaeRow


@object_type
class Generation:
    """Everything that was generated."""

    outputs: list[GenerationOutput] = strawberry.field(
        description="Prompt by prompt, the baseline before the steered."
    )
    sae: SaeRef | None = strawberry.field(description="The SAE whose neurons are reported.")
    seed: int = strawberry.field(
        description=(
            "The one asked for, or the one that the server drew; each prompt has its own random stream"
            " from it."
        )
    )
    top_texts_path: str | None = strawberry.field(
        description=(
            "The top-texts JSON file written for these prompts, if asked for; relative to the artifact"
            " directory."
        )
    )
    top_texts_url: str | None = strawberry.field(
        description="Where this server hands it out, under the same access rules as the API."
    )


GenerateResult = Annotated[
    Generation | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union(
        "GenerateResult",
        description=(
            "Conflict: the SAE is not READY, belongs to another language model, or the model cannot be"
            " loaded."
        ),
    ),
]


@object_type
class GenerationToken:
    """A token as it is made."""

    prompt_index: int = strawberry.field(description="Which prompt it belongs to, counted from 0.")
    variant: GenerationVariant = strawberry.field(description="With or without steering.")
    token: GeneratedToken = strawberry.field(description="The token.")


@object_type
class GenerationFinished:
    """An output is complete."""

    output: GenerationOutput = strawberry.field(description="All of it, the tokens that were sent among it.")


@object_type
class GenerationQueued:
    """The request has been handed to the process that generates. Comes first, once."""

    position: int = strawberry.field(
        description="Requests that waited there before it; others may be in progress beside it."
    )
    loading: bool = strawberry.field(description="Whether the language model has to be loaded first.")


@object_type
class GenerationStarted:
    """The prompts are about to go through the language model. Comes once, before the tokens."""

    seed: int = strawberry.field(description="The one asked for, or the one that the server drew.")
    prompt_tokens: list[list[PromptToken]] = strawberry.field(
        description="Each prompt's tokens as the model sees them, in a chat those of the template among them."
    )


GenerationEvent = Annotated[
    GenerationQueued
    | GenerationStarted
    | GenerationToken
    | GenerationFinished
    | InvalidInput
    | NotFound
    | Conflict
    | QueueFull,
    strawberry.union(
        "GenerationEvent",
        description=(
            "Queued, started, then tokens and finished outputs. A refusal ends the stream; where the input"
            " shows it, it comes alone."
        ),
    ),
]


def _event(
    sae_row: SaeRow | None, event: generation_service.StreamEvent
) -> GenerationQueued | GenerationStarted | GenerationToken | GenerationFinished:
    match event:
        case generation_service.Queued(position, loading):
            return GenerationQueued(position=position, loading=loading)
        case events.GenerationStarted(seed, prompts):
            return GenerationStarted(seed=seed, prompt_tokens=[prompt_tokens(prompt) for prompt in prompts])
        case events.TokenGenerated(prompt_index, variant, token):
            return GenerationToken(
                prompt_index=prompt_index,
                variant=GenerationVariant(variant),
                token=generated_token(sae_row, token),
            )
        case events.OutputFinished():
            return GenerationFinished(output=generation_output(sae_row, event))


@strawberry.type
class GenerationMutations:
    """Generating text at once."""

    @stoppable_mutation
    async def generate(
        self, info: Info, input: Annotated[GenerateInput, argument("What to generate.")]
    ) -> GenerateResult:
        """Generates text and gives all of it at the end."""
        generated = await generation_service.generate(info.context.server, input.request())
        row, path = generated.sae, generated.top_texts_path
        return Generation(
            outputs=[generation_output(row, output) for output in generated.outputs],
            sae=saes.sae(row) if row else None,
            seed=generated.seed,
            top_texts_path=path,
            top_texts_url=top_texts_url(info, row.id, path) if row else None,
        )


@strawberry.type
class GenerationSubscriptions:
    """Generating text token by token."""

    @subscription
    async def generation(
        self, info: Info, input: Annotated[GenerateInput, argument("What to generate.")]
    ) -> AsyncGenerator[GenerationEvent, None]:
        """What happens, and tokens as they are made. Ending the subscription stops the generation."""
        stream = generation_service.stream(info.context.server, input.request())
        try:
            async with closing(stream) as events:
                async for sae_row, event in events:
                    info.context.renew_loaders()
                    yield _event(sae_row, event)
        except errors.Refusal as refusal:
            # Strawberry puts refusals into unions for queries and mutations alone.
            info.context.refusal = refusals.code_of(refusal)
            yield refusals.refusal_type(refusal)
