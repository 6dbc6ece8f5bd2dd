"""Attribution: which neurons of an SAE favor a token at a prompt's end, and which are against it."""

from collections.abc import Sequence

from gql_server.errors import FieldProblem, InvalidInput
from gql_server.protocol.results import AttributionResult
from gql_server.protocol.tasks import AttributeNeurons, TokenChoice
from gql_server.services import chats, exclusions, inspection, interactive
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.requests import AttributeRequest, TokenRequest
from models import LanguageModel, Sae

MAX_FIRST = 100
MAX_ABLATED = 50
MAX_TOKENS = 2_048
"""Tokens of a prompt: a pass keeps what the gradients of all layers above the SAE's need."""
MAX_TOKEN_CHARACTERS = 1_000


async def attribute(server: AppContext, request: AttributeRequest) -> tuple[Sae, AttributionResult]:
    """Run a prompt through the model with gradients, and without each of the strongest neurons.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: See the API.
    """
    _check(server, request)
    about = await inspection.subject(
        server, request.sae_id, request.exclude_first_positions, request.exclude_outliers
    )
    prompts = [request.prompt]
    rendered = await chats.rendered(server, about.language_model, prompts) if request.chat else None
    counts = await _token_counts(server, about.language_model, prompts, rendered)
    task = AttributeNeurons(
        language_model=about.language_model_source(server),
        sae=about.sae_source(server),
        prompt=request.prompt,
        chat=rendered[0] if rendered else None,
        target=_choice(request.target),
        contrast=_choice(request.contrast),
        first=request.first,
        ablate=request.ablate,
        max_tokens=MAX_TOKENS,
        made_with=about.made_with,
        exclusions=about.exclusions,
    )
    result = await inspection.run(server, about, "attribute_neurons", task, 1, counts)
    assert isinstance(result, AttributionResult)
    return about.sae, result


def _check(server: AppContext, request: AttributeRequest) -> None:
    checks, limit, length = Checks(), server.settings.max_text_characters, len(request.prompt)
    checks.require(bool(request.prompt.strip()), "prompt", "A prompt must not be empty.")
    message = f"The prompt has {length:,} characters; the limit is {limit:,}."
    checks.require(length <= limit, "prompt", message)
    for argument, token in (("target", request.target), ("contrast", request.contrast)):
        if token is not None and token.text is not None:
            message = f"A token's text has 1 to {MAX_TOKEN_CHARACTERS:,} characters, not {len(token.text):,}."
            checks.require(0 < len(token.text) <= MAX_TOKEN_CHARACTERS, [argument, "text"], message)
    checks.whole_number("first", request.first, 1, MAX_FIRST)
    checks.whole_number("ablate", request.ablate, 0, MAX_ABLATED)
    exclusions.check(checks, request.exclude_first_positions, request.exclude_outliers)
    checks.done()


async def _token_counts(
    server: AppContext, language_model: LanguageModel, prompts: Sequence[str], chats: Sequence[str] | None
) -> list[int]:
    """Return the prompt's number of tokens; an empty list where the model was never loaded."""
    try:
        counts = await interactive.check_prompt_tokens(server, language_model, prompts, "prompt", chats)
    except InvalidInput as refusal:
        # There is one prompt, so its number is no part of the path.
        problems = [FieldProblem(["prompt"], problem.message) for problem in refusal.problems]
        raise InvalidInput(problems) from refusal
    if sum(counts) > MAX_TOKENS:
        message = f"The prompt has {sum(counts):,} tokens; the limit is {MAX_TOKENS:,}."
        raise InvalidInput.at("prompt", message)
    interactive.check_request_tokens(server.settings, sum(counts), 0, "prompt")
    return counts


def _choice(token: TokenRequest | None) -> TokenChoice | None:
    return None if token is None else TokenChoice(token.token_id, token.text)
