"""Contrast: which neurons of an SAE fire more on one set of texts than on another."""

from collections.abc import Sequence

from gql_server.protocol.results import ContrastResult
from gql_server.protocol.tasks import ContrastNeurons
from gql_server.services import exclusions, inspection, interactive
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.settings import Settings
from models import Sae

MAX_FIRST = 100
_TOGETHER = " in both sets together"


async def find(
    server: AppContext,
    sae_id: str,
    texts_a: Sequence[str],
    texts_b: Sequence[str],
    first: int,
    exclude_first_positions: int | None = None,
    exclude_outliers: float | None = None,
) -> tuple[Sae, ContrastResult]:
    """Run two sets of texts through the model and the SAE.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: See the API.
    """
    _check(server.settings, texts_a, texts_b, first)
    checks = Checks()
    exclusions.check(checks, exclude_first_positions, exclude_outliers)
    checks.done()
    about = await inspection.subject(server, sae_id, exclude_first_positions, exclude_outliers)
    counts = await interactive.check_prompt_tokens(server, about.language_model, texts_a, "textsA")
    counts += await interactive.check_prompt_tokens(server, about.language_model, texts_b, "textsB")
    interactive.check_request_tokens(server.settings, sum(counts), 0, "textsA")
    task = ContrastNeurons(
        language_model=about.language_model_source(server),
        sae=about.sae_source(server),
        texts_a=list(texts_a),
        texts_b=list(texts_b),
        first=first,
        made_with=about.made_with,
        exclusions=about.exclusions,
    )
    n_texts = len(texts_a) + len(texts_b)
    result = await inspection.run(server, about, "contrast_neurons", task, n_texts, counts)
    assert isinstance(result, ContrastResult)
    return about.sae, result


def _check(settings: Settings, texts_a: Sequence[str], texts_b: Sequence[str], first: int) -> None:
    checks = Checks()
    interactive.check_prompts(checks, settings, texts_a, "textsA", _TOGETHER)
    interactive.check_prompts(checks, settings, texts_b, "textsB", _TOGETHER)
    checks.whole_number("first", first, 1, MAX_FIRST)
    checks.done()
    total, limit = len(texts_a) + len(texts_b), settings.max_prompts
    checks.require(total <= limit, "textsB", f"There are {total:,} texts; the limit is {limit:,}{_TOGETHER}.")
    checks.done()
