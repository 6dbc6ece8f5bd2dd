"""Generation: text from a language model, with an SAE's neurons reported and, if asked for, edited."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.errors import Conflict, InvalidInput
from gql_server.protocol.events import GenerationStarted, OutputFinished, TokenGenerated
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.sources import Edit
from gql_server.protocol.tasks import Generate
from gql_server.services import (
    artifacts,
    chats,
    concept_configs,
    exclusions,
    interactive,
    lookup,
    model_identity,
    quota,
)
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.concepts import known_latent_count
from gql_server.services.inference_logging import Inference
from gql_server.services.neuron_indexes import top_texts_path
from gql_server.services.requests import EditRequest, GenerateRequest
from gql_server.settings import Settings
from gql_server.telemetry.tracing import Attributes
from models import ConceptConfig, LanguageModel, Sae
from models.enums import LanguageModelStatus

MAX_SEED = 2**31 - 1
MAX_STOP_STRINGS = 16
MAX_ALTERNATIVES = 20
MAX_TOP_NEURONS = 100
MAX_WATCHED_NEURONS = 20
MAX_TOP_TEXTS_FILES = 100
"""The limit of an SAE's files of top texts; the oldest makes room for the next."""
MAX_TOP_TEXTS_BYTES = 64_000_000
MAX_TOP_TEXTS_BYTES_OF_SAE = 256_000_000
"""The limit of their bytes; the oldest make room for the next."""
BYTES_OF_A_TOP_TEXT, BYTES_OF_A_TOKEN = 300, 8
"""The bytes in such a file of a text besides its characters, and of a generated token."""
MIN_TEMPERATURE = 0.001
MAX_TEMPERATURE = 100
REPETITION_PENALTIES = (0.01, 100)


@dataclass
class Generated:
    """All outputs of a request, prompt by prompt, the baseline before the steered."""

    sae: Sae | None
    seed: int
    top_texts_path: str | None
    outputs: list[OutputFinished] = field(default_factory=list)


@dataclass(frozen=True)
class Queued:
    """A generation has been handed to its worker."""

    position: int
    """Requests that waited there before it."""
    loading: bool
    """Whether the language model has to be loaded first."""


StreamEvent = Queued | GenerationStarted | TokenGenerated | OutputFinished


@dataclass(frozen=True)
class _Prepared:
    task: Generate
    language_model: LanguageModel
    sae: Sae | None
    top_texts_path: str | None

    @property
    def used(self) -> list[str]:
        return [self.language_model.id, *([self.sae.id] if self.sae else [])]

    @property
    def about(self) -> Attributes:
        """What the log says of the request."""
        edits = self.task.edits
        return {
            "language_model": self.language_model.id,
            "sae": self.sae.id if self.sae else None,
            "prompts": len(self.task.prompts),
            "edits": None if edits is None else len(edits),
        }


async def generate(server: AppContext, request: GenerateRequest) -> Generated:
    """Generate, and return everything at the end.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: See the API.
    """
    prepared = await _prepare(server, request)
    generated = Generated(prepared.sae, prepared.task.seed, prepared.top_texts_path)
    async with aclosing(_events(server, prepared)) as events:
        async for event in events:
            if isinstance(event, OutputFinished):
                generated.outputs.append(event)
    generated.outputs.sort(key=lambda output: (output.prompt_index, output.variant != "BASELINE"))
    return generated


async def stream(
    server: AppContext, request: GenerateRequest
) -> AsyncGenerator[tuple[Sae | None, StreamEvent], None]:
    """Give what happens, and tokens as they are made; closing the generator stops the generation.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: See the API.
    """
    prepared = await _prepare(server, request)
    async with aclosing(_events(server, prepared)) as events:
        async for event in events:
            yield prepared.sae, event


async def _events(server: AppContext, prepared: _Prepared) -> AsyncGenerator[StreamEvent, None]:
    loading = not await _is_loaded(server, prepared.language_model.id)
    with (
        server.in_use.by_request(*prepared.used),
        Inference("generation", server.telemetry, prepared.about) as inference,
    ):
        run = await interactive.start(server, prepared.task)
        inference.follow(run)
        ended = False
        try:
            yield Queued(run.waiting_before, loading)
            async for events in run.batches():
                for event in events:
                    if isinstance(event, TokenGenerated):
                        inference.generated()
                    if isinstance(event, GenerationStarted | TokenGenerated | OutputFinished):
                        yield event
            ended = True
            await interactive.finish(server, run)
        finally:
            if not ended:
                await server.executor.cancel(run)


async def _is_loaded(server: AppContext, language_model_id: str) -> bool:
    async with server.database.read() as session:
        language_model = await session.get(LanguageModel, language_model_id)
        return language_model is not None and language_model.status == LanguageModelStatus.LOADED


async def _prepare(server: AppContext, request: GenerateRequest) -> _Prepared:
    _check(server.settings, request)
    async with server.database.read() as session:
        config = await _config(session, request)
        sae = await _sae(session, request, config)
        language_model = await _language_model(session, request, sae)
        left_out = await _exclusions(session, request, sae)
    await interactive.check_is_here(server, language_model)
    if sae is not None:
        await model_identity.check_by_looks(server, language_model, sae)
    rendered = await chats.rendered(server, language_model, request.prompts) if request.chat else None
    counts = await interactive.check_prompt_tokens(server, language_model, request.prompts, chats=rendered)
    outputs = len(request.prompts) * (2 if request.compare_to_baseline else 1)
    interactive.check_request_tokens(server.settings, sum(counts), outputs * request.max_new_tokens)
    edits = _edits(server.settings, request, config, sae)
    _check_watched(request, sae)
    relative = None
    if sae and request.write_top_texts:
        relative = top_texts_path(sae, ids.new(ids.REQUEST))
        await asyncio.to_thread(_make_room, server.settings, request, relative)
    path = server.settings.artifact_dir.resolve() / relative if relative else None
    task = _task(server.settings, request, language_model, sae, edits, path, left_out, rendered)
    return _Prepared(task, language_model, sae, relative)


def _make_room(settings: Settings, request: GenerateRequest, relative: str) -> None:
    """Check that a file of top texts fits, and remove the oldest of the SAE's others where they are many."""
    n_bytes = most_bytes_of_top_texts(request)
    if n_bytes > MAX_TOP_TEXTS_BYTES:
        message = (
            f"The top texts could take {n_bytes / 1e6:,.0f} MB; the limit is "
            f"{MAX_TOP_TEXTS_BYTES / 1e6:,.0f} MB. Send fewer or shorter prompts, or report fewer neurons."
        )
        raise InvalidInput.at("writeTopTexts", message)
    quota.check("writeTopTexts", n_bytes, "The top texts", settings)
    path = settings.artifact_dir / relative
    kept, kept_bytes = 1, n_bytes
    for other in sorted(path.parent.glob(f"{ids.REQUEST}_*.json"), reverse=True):  # The newest first.
        with suppress(FileNotFoundError):
            kept, kept_bytes = kept + 1, kept_bytes + other.stat().st_size
        if kept > MAX_TOP_TEXTS_FILES or kept_bytes > MAX_TOP_TEXTS_BYTES_OF_SAE:
            other.unlink(missing_ok=True)


def most_bytes_of_top_texts(request: GenerateRequest) -> int:
    """Return the largest size of a request's file of top texts: every neuron of an output has all texts."""
    variants = 2 if request.compare_to_baseline else 1
    n_outputs = variants * len(request.prompts)
    written = request.max_new_tokens * BYTES_OF_A_TOKEN + BYTES_OF_A_TOP_TEXT
    n_bytes = sum(len(prompt.encode()) + written for prompt in request.prompts) * variants
    return n_outputs * request.top_neurons * n_bytes


def _check(settings: Settings, request: GenerateRequest) -> None:
    checks = Checks()
    interactive.check_prompts(checks, settings, request.prompts)
    checks.whole_number("maxNewTokens", request.max_new_tokens, 1, settings.max_new_tokens)
    good = request.temperature == 0 or MIN_TEMPERATURE <= request.temperature <= MAX_TEMPERATURE
    message = f"A temperature is 0 (greedy), or a number from {MIN_TEMPERATURE} to {MAX_TEMPERATURE}."
    checks.require(good, "temperature", message)
    if request.top_p is not None:
        checks.require(0 < request.top_p <= 1, "topP", "topP is above 0 and at most 1.")
    if request.top_k is not None:
        checks.require(request.top_k >= 1, "topK", "topK is at least 1.")
    if request.repetition_penalty is not None:
        low, high = REPETITION_PENALTIES
        good = low <= request.repetition_penalty <= high
        checks.require(good, "repetitionPenalty", f"A repetition penalty is a number from {low} to {high}.")
    if request.seed is not None:
        checks.whole_number("seed", request.seed, 0, MAX_SEED)
    checks.whole_number("topLogProbabilities", request.top_log_probabilities, 0, MAX_ALTERNATIVES)
    checks.whole_number("topNeurons", request.top_neurons, 0, MAX_TOP_NEURONS)
    stop = request.stop or []
    checks.require(
        len(stop) <= MAX_STOP_STRINGS,
        "stop",
        f"There are {len(stop):,} stop strings; the limit is {MAX_STOP_STRINGS}.",
    )
    for place, text in enumerate(stop):
        checks.require(bool(text), ["stop", place], "A stop string must not be empty.")
    watched = request.watch_neurons or []
    message = f"There are {len(watched):,} neurons to watch; the limit is {MAX_WATCHED_NEURONS}."
    checks.require(len(watched) <= MAX_WATCHED_NEURONS, "watchNeurons", message)
    message = "A neuron is named twice; name each neuron once."
    checks.require(len(set(watched)) == len(watched), "watchNeurons", message)
    _check_combination(checks, request)
    checks.done()


def _check_watched(request: GenerateRequest, sae: Sae | None) -> None:
    checks = Checks()
    for place, neuron in enumerate(request.watch_neurons or []):
        if sae is not None:
            checks.whole_number(["watchNeurons", place], neuron, 0, known_latent_count(sae) - 1)
    checks.done()


def _check_combination(checks: Checks, request: GenerateRequest) -> None:
    steering = request.steering
    if request.compare_to_baseline:
        checks.require(
            steering is not None, "compareToBaseline", "There is nothing to compare without steering."
        )
    named = request.sae_id is not None or (steering is not None and steering.concept_config_id is not None)
    if request.language_model_id is None:
        checks.require(named, "languageModelId", "Name a language model, or an SAE, which names its own.")
    if steering is not None:
        checks.require(named, "saeId", "Name the SAE whose neurons the edits are of.")
    if request.exclude_first_positions is not None or request.exclude_outliers is not None:
        checks.require(named, "saeId", "Tokens are left out for an SAE's neurons; name the SAE.")
    if request.watch_neurons:
        checks.require(named, "watchNeurons", "The neurons to watch are an SAE's; name the SAE.")
    exclusions.check(checks, request.exclude_first_positions, request.exclude_outliers)
    if request.write_top_texts:
        checks.require(named, "writeTopTexts", "Top texts are of an SAE's neurons; name the SAE.")


async def _config(session: AsyncSession, request: GenerateRequest) -> ConceptConfig | None:
    if request.steering is None or request.steering.concept_config_id is None:
        return None
    return await lookup.get(session, ConceptConfig, request.steering.concept_config_id)


async def _sae(session: AsyncSession, request: GenerateRequest, config: ConceptConfig | None) -> Sae | None:
    sae_id = config.sae_id if request.sae_id is None and config is not None else request.sae_id
    if sae_id is None:
        return None
    sae = await lookup.get(session, Sae, sae_id)
    if config is not None and config.sae_id != sae.id:
        raise Conflict(f"The concept config {config.name!r} belongs to the SAE {config.sae_id}.", config.id)
    lookup.check_ready(sae)
    return sae


async def _exclusions(session: AsyncSession, request: GenerateRequest, sae: Sae | None) -> Exclusions:
    if sae is None:
        return Exclusions()
    return await exclusions.for_prompts(
        session, sae, request.exclude_first_positions, request.exclude_outliers
    )


async def _language_model(session: AsyncSession, request: GenerateRequest, sae: Sae | None) -> LanguageModel:
    wanted = request.language_model_id
    if wanted is not None:
        language_model = await lookup.get(session, LanguageModel, wanted)
        if sae is not None and sae.language_model_id != wanted:
            raise Conflict(
                f"The SAE {sae.name!r} belongs to the language model {sae.language_model_id}; "
                "leave languageModelId out, or name an SAE of this model.",
                sae.id,
            )
        return language_model
    assert sae is not None
    return await session.get_one(LanguageModel, sae.language_model_id)


def _edits(
    settings: Settings, request: GenerateRequest, config: ConceptConfig | None, sae: Sae | None
) -> Sequence[EditRequest] | None:
    if request.steering is None or sae is None:
        return None
    if config is not None:
        return [EditRequest(**edit) for edit in config.edits]
    edits = request.steering.edits or []
    checks = Checks()
    path = ["steering", "source", "edits"]
    concept_configs.check_edits(checks, path, edits, known_latent_count(sae), settings.max_edits)
    checks.done()
    return concept_configs.normalize(edits)


def _task(
    settings: Settings,
    request: GenerateRequest,
    language_model: LanguageModel,
    sae: Sae | None,
    edits: Sequence[EditRequest] | None,
    top_texts: Path | None,
    left_out: Exclusions,
    rendered: list[str] | None,
) -> Generate:
    return Generate(
        language_model=artifacts.language_model_source(settings, language_model),
        sae=artifacts.sae_source(settings, sae) if sae else None,
        prompts=list(request.prompts),
        chats=rendered,
        max_new_tokens=request.max_new_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        repetition_penalty=request.repetition_penalty,
        stop=list(request.stop or []),
        seed=request.seed if request.seed is not None else random.randrange(MAX_SEED),
        edits=None if edits is None else [Edit(e.neuron_index, e.multiplier, e.bias) for e in edits],
        mode=request.steering.mode if request.steering else "ERROR_PRESERVING",
        compare_to_baseline=request.compare_to_baseline,
        top_log_probabilities=request.top_log_probabilities,
        top_neurons=request.top_neurons,
        top_texts_path=str(top_texts) if top_texts else None,
        made_with=model_identity.made_with(sae, language_model) if sae else None,
        exclusions=left_out,
        watch_neurons=list(request.watch_neurons or []),
    )
