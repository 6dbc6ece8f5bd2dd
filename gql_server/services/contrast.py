"""Contrast: which neurons of an SAE fire more on one set of texts than on another."""

from collections.abc import Sequence

from gql_server.protocol.results import ContrastResult
from gql_server.protocol.tasks import ContrastNeurons
from gql_server.services import artifacts, exclusions, interactive, lookup, model_identity
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.inference_logging import Inference
from gql_server.settings import Settings
from gql_server.telemetry.tracing import Attributes
from models import LanguageModel, Sae

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
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, sae_id)
        lookup.check_ready(sae)
        left_out = await exclusions.for_prompts(session, sae, exclude_first_positions, exclude_outliers)
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
    await interactive.check_is_here(server, language_model)
    await model_identity.check_by_looks(server, language_model, sae)
    counts = await interactive.check_prompt_tokens(server, language_model, texts_a, "textsA")
    counts += await interactive.check_prompt_tokens(server, language_model, texts_b, "textsB")
    interactive.check_request_tokens(server.settings, sum(counts), 0, "textsA")
    task = ContrastNeurons(
        language_model=artifacts.language_model_source(server.settings, language_model),
        sae=artifacts.sae_source(server.settings, sae),
        texts_a=list(texts_a),
        texts_b=list(texts_b),
        first=first,
        made_with=model_identity.made_with(sae, language_model),
        exclusions=left_out,
    )
    n_texts = len(texts_a) + len(texts_b)
    about: Attributes = {"language_model": language_model.id, "sae": sae.id, "prompts": n_texts}
    with (
        server.in_use.by_request(language_model.id, sae.id),
        Inference("contrast_neurons", server.telemetry, about, n_tokens=sum(counts)) as inference,
    ):
        run = await interactive.start(server, task)
        inference.follow(run)
        result = await interactive.finish(server, run)
    assert isinstance(result, ContrastResult)
    return sae, result


def _check(settings: Settings, texts_a: Sequence[str], texts_b: Sequence[str], first: int) -> None:
    checks = Checks()
    interactive.check_prompts(checks, settings, texts_a, "textsA", _TOGETHER)
    interactive.check_prompts(checks, settings, texts_b, "textsB", _TOGETHER)
    checks.whole_number("first", first, 1, MAX_FIRST)
    checks.done()
    total, limit = len(texts_a) + len(texts_b), settings.max_prompts
    checks.require(total <= limit, "textsB", f"There are {total:,} texts; the limit is {limit:,}{_TOGETHER}.")
    checks.done()
