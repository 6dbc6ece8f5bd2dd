"""SAEs that somebody else has trained: checked as far as that goes without torch, then imported by a job."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.files import resolve_inside
from gql_server.artifacts.provenance import to_json
from gql_server.errors import Conflict, InvalidInput
from gql_server.formats.public_saes.catalogue import PublicSae, find_public
from gql_server.formats.sae_sources.input_processing import MAX_SCALE, MIN_SCALE
from gql_server.formats.sae_sources.places import Places
from gql_server.formats.sae_sources.registry import FORMATS
from gql_server.jobs.descriptions import JobDescription, Subjects
from gql_server.jobs.handler import ArtifactHandler
from gql_server.model_files.hub_names import is_path, is_repository, is_revision
from gql_server.processes.reader_pool import refusing
from gql_server.protocol.results import ImportResult
from gql_server.protocol.sources import HubSae
from gql_server.protocol.tasks import DownloadSae, ImportSae
from gql_server.services import artifacts, launching, lookup, model_identity, sae_sources
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.language_models import check_loaded_once, writes_bos
from gql_server.services.requests import ImportSaeRequest, Launched
from gql_server.services.sae_sources import FoundSae
from gql_server.services.unused_names import unused_name
from gql_server.settings import Settings
from models import ActivationRun, Job, LanguageModel, Sae
from models.enums import InputNormalization, JobKind, JobStatus, LayerKind, ProgressUnit, SaeOrigin

CENTERED_ARCHITECTURES = (
    "GPT2LMHeadModel",
    "GPTNeoForCausalLM",
    "GPTNeoXForCausalLM",
    "GPTJForCausalLM",
    "PhiForCausalLM",
)
"""Models with LayerNorm before all that reads the residual stream: nothing reads the mean of what is written
there, and TransformerLens takes it out."""

Value = TypeVar("Value")

log = structlog.get_logger(__name__)


async def import_(server: AppContext, request: ImportSaeRequest) -> Launched:
    """Queue an import.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    launch = await launching.begin(server, ImportHandler, request)
    if launch.earlier:
        return launch.earlier
    listed = await asyncio.to_thread(find_public, request.repository, request.path)
    async with server.database.read() as session:
        language_model = await lookup.get(session, LanguageModel, request.language_model_id)
        check_loaded_once(language_model)
        layer, written = _check(request, language_model, server.settings)
        if request.repository is not None:
            layer, written = _listed(listed, language_model, layer, written)
        width = await _width_of(session, language_model, layer) if layer else None
    await model_identity.check_described(server, language_model)
    if request.repository is not None:
        sources, named, output = _asked_of_hub(request), None, _known(written) if written else None
    else:
        found = await _look(server, request, language_model, layer, written, width)
        sources, named, output = _found_here(request, found), found.named, found.output
        if layer is None:
            layer = next(one for one in language_model.layers or [] if one["name"] == found.named)
            async with server.database.read() as session:
                width = await _width_of(session, language_model, layer)
            _check_width(request, found, layer, width)
    assert layer is not None

    sae = _new_sae(request, language_model, layer["name"], output.name if output else None)

    async def check(session: AsyncSession) -> None:
        await lookup.get(session, LanguageModel, language_model.id)
        if request.name is None:
            sae.name = await unused_name(session, Sae, sae.name)

    return await launch.queue(
        request={
            "language_model_id": language_model.id,
            "layer": layer,
            "named_layer": named,
            "output_layer": dataclasses.asdict(output) if output else None,
            "width": width,
            **sources,
            "check_fit": request.check_fit,
            "stated_l0": listed and listed.l0,
            "input_scale": _as_listed(request.input_scale, listed and listed.input_scale),
            "center_inputs": _as_listed(request.center_inputs, (listed and listed.centers_inputs) or None),
        },
        makes=sae,
        check=check,
    )


async def _look(
    server: AppContext,
    request: ImportSaeRequest,
    language_model: LanguageModel,
    layer: dict[str, Any] | None,
    written: dict[str, Any] | None,
    width: int | None,
) -> FoundSae:
    known = [_known(one) for one in language_model.layers or []]
    layers = sae_sources.Layers(_known(layer) if layer else None, _known(written) if written else None, known)
    settings = server.settings.model_copy(update={"token": None})  # It is no reader's business.
    with refusing(sae_sources.PATHS[request.format], "The files cannot be read"):
        return await server.readers.files.run(sae_sources.look, settings, request, width, layers)


def _found_here(request: ImportSaeRequest, found: FoundSae) -> dict[str, Any]:
    """Return what the job's request says of files in a model directory."""
    files = {name: str(path) for name, path in found.files.items()}
    return {"format": found.format, "source": request.path, "files": files}


def _asked_of_hub(request: ImportSaeRequest) -> dict[str, Any]:
    """Return what the job's request says of an SAE of the Hub: what was asked for."""
    hub = HubSae(request.repository or "", request.path, request.revision)
    asked = {"repository": hub.repository, "path": hub.path, "revision": hub.revision}
    return {"format": None, "source": hub.place, "files": {}, "hub": asked}


def _listed(
    listed: PublicSae | None,
    language_model: LanguageModel,
    layer: dict[str, Any] | None,
    written: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the layers that an SAE of the Hub is for: as named, else as the list of public SAEs has them."""
    if listed is not None and listed.refusal is not None:
        raise InvalidInput.at(["source", "huggingFace"], listed.refusal)
    known = {one["name"]: one for one in language_model.layers or []}
    places = Places(language_model.layers or [])
    if layer is None:
        name = listed and places.layer_of(listed.reads, takes_gain=listed.writes is not None)
        if name is None:
            raise InvalidInput.at(
                ["layer"],
                "Which layer an SAE of the Hub is for is known here of those that publicSaes lists, where the"
                " language model has that layer: name it.",
            )
        layer = known[name]
    if written is None and listed is not None:
        written = known.get(places.layer_of(listed.writes) or "")
    return layer, written


def _as_listed(asked: Value | None, listed: Value | None) -> Value | None:
    """Return what was asked for, else what the list of public SAEs knows that its files do not say."""
    return listed if asked is None else asked


def _check_hub(checks: Checks, request: ImportSaeRequest, *, enabled: bool) -> None:
    if request.repository is None:
        return
    path = ["source", "huggingFace"]
    checks.require(enabled, path, "This server takes no SAEs from the Hugging Face Hub.")
    checks.require(
        is_repository(request.repository),
        [*path, "repository"],
        "A repository is named owner/name, such as google/gemma-scope-2b-pt-res.",
    )
    checks.require(
        is_path(request.path),
        [*path, "path"],
        "A path is that of a directory or a file in the repository, such as layer_12/width_16k, without a /"
        " before or behind it.",
    )
    checks.require(
        request.revision is None or is_revision(request.revision),
        [*path, "revision"],
        "A revision is a branch, a tag or a commit's hash.",
    )


def _known(layer: dict[str, Any]) -> sae_sources.KnownLayer:
    return sae_sources.KnownLayer(layer["name"], layer["kind"], layer["depth"], layer.get("width"))


def _check(
    request: ImportSaeRequest, language_model: LanguageModel, settings: Settings
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the layer and the output layer as the language model's row describes them, if they are named."""
    checks = Checks()
    _check_hub(checks, request, enabled=settings.hub_enabled)
    checks.name("name", request.name)
    checks.idempotency_key(request.idempotency_key)
    if request.input_scale is not None:
        checks.require(
            MIN_SCALE <= request.input_scale <= MAX_SCALE,
            "inputScale",
            f"Give a factor above 0, from {MIN_SCALE:g} to {MAX_SCALE:g}.",
        )
    known = {one["name"]: one for one in language_model.layers or []}
    for field, name in (("layer", request.layer), ("outputLayer", request.output_layer)):
        if name is not None and name not in known:
            checks.problem(
                field,
                f"The language model has no layer {name!r} that runs once for each text and gives a "
                "vector for each token; LanguageModel.layers(kind: null) lists those that do.",
            )
    checks.done()
    return known.get(request.layer or ""), known.get(request.output_layer or "")


def _check_width(
    request: ImportSaeRequest, found: FoundSae, layer: dict[str, Any], width: int | None
) -> None:
    if width not in (None, found.n_inputs):
        raise InvalidInput.at(
            sae_sources.PATHS[request.format],
            f"The SAE is for activations of width {found.n_inputs}; those of the layer {layer['name']}, which"
            f" its files name ({found.place}), are {width} wide.",
        )


async def _width_of(
    session: AsyncSession, language_model: LanguageModel, layer: dict[str, Any]
) -> int | None:
    """Return a layer's width: from the model, or from a run where the model was loaded by an older server."""
    if layer.get("width") is not None:
        return int(layer["width"])
    if layer["kind"] == LayerKind.BLOCK:
        return language_model.hidden_size
    runs = select(ActivationRun.layers).where(ActivationRun.language_model_id == language_model.id)
    captured = [one for layers in await session.scalars(runs) for one in layers]
    widths = (one["hidden_size"] for one in captured if one["name"] == layer["name"])
    return next((width for width in widths if width is not None), None)


def _has_layer_norms(language_model: LanguageModel) -> bool | None:
    """Whether TransformerLens centers what the model writes, if asked to; None where nobody knows."""
    return True if language_model.architecture in CENTERED_ARCHITECTURES else None


def _new_sae(
    request: ImportSaeRequest, language_model: LanguageModel, layer: str, output_layer: str | None
) -> Sae:
    sae_id = ids.new(ids.SAE)
    source = request.path or request.repository or ""
    return Sae(
        id=sae_id,
        name=request.name or f"{Path(source).name} on {language_model.name}"[:200],
        origin=SaeOrigin.IMPORTED,
        language_model_id=language_model.id,
        layer=layer,
        output_layer=output_layer,
        directory=f"sae/{language_model.id}/{sae_id}",
    )


def _in_format(format: str | None) -> str:
    found = FORMATS.get(format or "")
    return f" ({found.title})" if found else ""


class ImportHandler(ArtifactHandler[ImportSae, ImportResult, Sae]):
    """IMPORT_SAE jobs."""

    kind = JobKind.IMPORT_SAE
    description = "Reads an SAE that was made elsewhere."
    lane = "interactive"
    unit = ProgressUnit.BYTES
    task = ImportSae
    result = ImportResult
    makes = Sae

    @classmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Name the source and the layer that it is for."""
        wanted = job.request
        source = wanted.get("source", "")
        layer = (wanted.get("layer") or {}).get("name", "")
        return JobDescription(
            f"Import {Path(source).name or 'an SAE'}{_in_format(wanted.get('format'))} for"
            f" {about.language_model_name}, {about.layer_name(layer)}",
            {
                "layer": layer,
                "output_layer": (wanted.get("output_layer") or {}).get("name"),
                "source_format": wanted.get("format"),
                "source": source,
                "hugging_face": wanted.get("hub"),
                "check_fit": wanted.get("check_fit"),
                "input_scale": wanted.get("input_scale"),
                "center_inputs": wanted.get("center_inputs"),
            },
        )

    async def task_of(self, session: AsyncSession, job: Job, sae: Sae) -> ImportSae:
        """Return the task, with what is known of the language model now."""
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
        wanted = job.request
        output = wanted.get("output_layer") or {}
        return ImportSae(
            sae_id=sae.id,
            name=sae.name,
            language_model_id=sae.language_model_id,
            layer=sae.layer,
            kind=wanted["layer"]["kind"],
            depth=wanted["layer"]["depth"],
            n_inputs=wanted["width"],
            max_latents=self._settings.max_latents,
            format=wanted["format"] or "",
            source=wanted["source"],
            files=wanted["files"],
            roots=[str(root) for root in sae_sources.roots(self._settings)],
            sae_dir=str(artifacts.sae_directory(self._settings, sae)),
            min_free_bytes=self._settings.min_free_bytes,
            attempt=job.attempt,
            writes_bos=writes_bos(language_model),
            norms_behind=Places(language_model.layers or []).norms_behind,
            named_layer=wanted.get("named_layer"),
            language_model=artifacts.language_model_source(self._settings, language_model),
            output_layer=sae.output_layer,
            output_kind=output.get("kind"),
            output_depth=output.get("depth"),
            n_outputs=output.get("width"),
            check_fit=wanted.get("check_fit", True),
            stated_l0=wanted.get("stated_l0"),
            input_scale=wanted.get("input_scale"),
            center_inputs=wanted.get("center_inputs"),
            has_layer_norms=_has_layer_norms(language_model),
            parameter_count=language_model.parameter_count,
            download=self._download(job, sae),
        )

    def _download(self, job: Job, sae: Sae) -> DownloadSae | None:
        """Return what gets an SAE of the Hub."""
        if not job.request.get("hub"):
            return None
        return DownloadSae(
            source=HubSae(**job.request["hub"]),
            directory=str(artifacts.download_directory(self._settings, sae)),
            n_inputs=job.request["width"],
            max_latents=self._settings.max_latents,
            min_free_bytes=self._settings.min_free_bytes,
            artifact_dir=str(self._settings.artifact_dir),
            max_artifact_bytes=self._settings.max_artifact_bytes,
            patience_seconds=self._settings.download_patience_seconds,
        )

    async def complete(self, session: AsyncSession, job: Job, sae: Sae, result: ImportResult) -> None:
        """Keep what has been read of the SAE."""
        sae.sae_class = result.sae_class
        sae.input_size = result.n_inputs
        sae.latent_count = result.n_latents
        sae.k = result.k
        sae.input_normalization = InputNormalization(result.input_normalization)
        sae.checkpoint_path = f"{sae.directory}/sae.pt"
        sae.metadata_path = f"{sae.directory}/metadata.json"
        sae.provenance = to_json(result.provenance)
        if result.provenance is not None and not job.request["format"]:
            job.request = {**job.request, "format": result.provenance.source_format}
        sae.made_with = to_json(result.provenance and result.provenance.language_model)
        sae.fit = msgspec.to_builtins(result.fit)
        sae.completed_at = datetime.now(UTC)

    async def break_off(self, session: AsyncSession, job: Job, sae: Sae, status: JobStatus) -> None:
        """Remove copies that a killed worker has left; a retry begins anew, but goes on with a download."""
        directory = artifacts.sae_directory(self._settings, sae)
        try:
            # Not after the commit: another attempt may write there by then.
            if status == JobStatus.CANCELED:
                download = artifacts.download_directory(self._settings, sae)
                await asyncio.to_thread(artifacts.remove, [download])
            await asyncio.to_thread(artifacts.remove_partial, directory)
        except OSError as error:
            log.warning("copies of a failed import are left", directory=str(directory), reason=str(error))

    async def find_again(self, session: AsyncSession, job: Job) -> Sae:
        """Return the SAE; NotFound where it was deleted, Conflict where its source has moved."""
        sae = await lookup.get(session, Sae, job.artifact_id)
        await asyncio.to_thread(self._check_still_inside, job.request["files"])
        return sae

    def _check_still_inside(self, files: dict[str, str]) -> None:
        """The server may have been given other model directories since, and the files be links by now."""
        for path in files.values():
            if resolve_inside(path, self._settings.model_dirs) != Path(path):
                raise Conflict(
                    "The files to import are no longer under one of this server's model directories; call"
                    " importSae instead."
                )
