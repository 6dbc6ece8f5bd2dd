"""Top neurons: which neurons of an SAE fire most on prompts."""

from collections.abc import Sequence

from gql_server.errors import InvalidInput
from gql_server.protocol.results import TopNeuronsResult
from gql_server.protocol.tasks import FindTopNeurons
from gql_server.services import chats, exclusions, inspection, interactive
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from models import Sae

MAX_FIRST = 100
MAX_PER_TOKEN_ENTRIES = 20_000


async def find(
    server: AppContext,
    sae_id: str,
    prompts: Sequence[str],
    first: int,
    per_token: bool,
    exclude_first_positions: int | None = None,
    exclude_outliers: float | None = None,
    chat: bool = False,
) -> tuple[Sae, TopNeuronsResult]:
    """Run prompts through the model and the SAE.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: See the API.
    """
    checks = Checks()
    interactive.check_prompts(checks, server.settings, prompts)
    checks.whole_number("first", first, 1, MAX_FIRST)
    exclusions.check(checks, exclude_first_positions, exclude_outliers)
    checks.done()
    about = await inspection.subject(server, sae_id, exclude_first_positions, exclude_outliers)
    rendered = await chats.rendered(server, about.language_model, prompts) if chat else None
    counts = await interactive.check_prompt_tokens(server, about.language_model, prompts, chats=rendered)
    interactive.check_request_tokens(server.settings, sum(counts), 0)
    if per_token and sum(counts) * first > MAX_PER_TOKEN_ENTRIES:
        raise InvalidInput.at(
            "first",
            f"{sum(counts)} tokens x {first} neurons are more than {MAX_PER_TOKEN_ENTRIES} with perToken; "
            "ask for fewer neurons, or for fewer or shorter prompts.",
        )
    task = FindTopNeurons(
        language_model=about.language_model_source(server),
        sae=about.sae_source(server),
        prompts=list(prompts),
        first=first,
        per_token=per_token,
        made_with=about.made_with,
        exclusions=about.exclusions,
        chats=rendered,
    )
    result = await inspection.run(server, about, "top_neurons", task, len(prompts), counts)
    assert isinstance(result, TopNeuronsResult)
    return about.sae, result
