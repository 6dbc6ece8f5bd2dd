"""What requests about an SAE's neurons on prompts share: what they read first, and how their task is run."""

from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import Result
from gql_server.protocol.sources import LanguageModelSource, MadeWith, SaeSource
from gql_server.protocol.tasks import Task
from gql_server.services import artifacts, exclusions, interactive, lookup, model_identity
from gql_server.services.app_context import AppContext
from gql_server.services.inference_logging import Inference
from gql_server.telemetry.tracing import Attributes
from models import LanguageModel, Sae


@dataclass(frozen=True)
class Subject:
    """An SAE that is READY, its language model, and the tokens that a request leaves out."""

    sae: Sae
    language_model: LanguageModel
    exclusions: Exclusions

    def language_model_source(self, server: AppContext) -> LanguageModelSource:
        """Return the language model as a task names it."""
        return artifacts.language_model_source(server.settings, self.language_model)

    def sae_source(self, server: AppContext) -> SaeSource:
        """Return the SAE as a task names it."""
        return artifacts.sae_source(server.settings, self.sae)

    @property
    def made_with(self) -> MadeWith | None:
        """Return what the SAE was made with."""
        return model_identity.made_with(self.sae, self.language_model)


async def subject(
    server: AppContext, sae_id: str, exclude_first_positions: int | None, exclude_outliers: float | None
) -> Subject:
    """Read what a request is about; its own inputs have been checked.

    Raises:
        NotFound, Conflict, InvalidInput: There is no such SAE, it cannot be used, or outliers cannot be told.
    """
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, sae_id)
        lookup.check_ready(sae)
        left_out = await exclusions.for_prompts(session, sae, exclude_first_positions, exclude_outliers)
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
    await interactive.check_is_here(server, language_model)
    await model_identity.check_by_looks(server, language_model, sae)
    return Subject(sae, language_model, left_out)


async def run(
    server: AppContext, about: Subject, kind: str, task: Task, n_prompts: int, counts: Sequence[int]
) -> Result:
    """Have the interactive worker do a task over prompts of so many tokens each; ``kind`` is for logs.

    Raises:
        InvalidInput, Conflict, QueueFull: As the worker's refusal, or for too many requests.
    """
    attributes: Attributes = {
        "language_model": about.language_model.id,
        "sae": about.sae.id,
        "prompts": n_prompts,
    }
    with (
        server.in_use.by_request(about.language_model.id, about.sae.id),
        Inference(kind, server.telemetry, attributes, n_tokens=sum(counts)) as inference,
    ):
        task_run = await interactive.start(server, task)
        inference.follow(task_run)
        return await interactive.finish(server, task_run)
