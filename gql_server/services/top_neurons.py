"""Top neurons: which neurons of an SAE fire most on prompts."""

from collections.abc import Sequence

from gql_server.errors import InvalidInput
from gql_server.protocol.results import TopNeuronsResult
from gql_server.protocol.tasks import FindTopNeurons
from gql_server.services import artifacts, exclusions, interactive, lookup, model_identity
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.inference_logging import Inference
from gql_server.telemetry.tracing import Attributes
from models import LanguageModel, Sae

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
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, sae_id)
        lookup.check_ready(sae)
        left_out = await exclusions.for_prompts(session, sae, exclude_first_positions, exclude_outliers)
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
    await interactive.check_is_here(server, language_model)
    await model_identity.check_by_looks(server, language_model, sae)
    counts = await interactive.check_prompt_tokens(server, language_model, prompts)
    interactive.check_request_tokens(server.settings, sum(counts), 0)
    if per_token and sum(counts) * first > MAX_PER_TOKEN_ENTRIES:
        raise InvalidInput.at(
            "first",
            f"{sum(counts)} tokens x {first} neurons are more than {MAX_PER_TOKEN_ENTRIES} with perToken; "
            "ask for fewer neurons, or for fewer or shorter prompts.",
        )
    task = FindTopNeurons(
        language_model=artifacts.language_model_source(server.settings, language_model),
        sae=artifacts.sae_source(server.settings, sae),
        prompts=list(prompts),
        first=first,
        per_token=per_token,
        made_with=model_identity.made_with(sae, language_model),
        exclusions=left_out,
    )
    about: Attributes = {"language_model": language_model.id, "sae": sae.id, "prompts": len(prompts)}
    with (
        server.in_use.by_request(language_model.id, sae.id),
        Inference("top_neurons", server.telemetry, about, n_tokens=sum(counts)) as inference,
    ):
        run = await interactive.start(server, task)
        inference.follow(run)
        result = await interactive.finish(server, run)
    assert isinstance(result, TopNeuronsResult)
    return sae, result
