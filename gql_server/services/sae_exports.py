"""SAEs in other libraries' formats: a ZIP file each, in the SAE's directory."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import __version__
from gql_server.errors import Conflict
from gql_server.formats.sae_classes import EXPORTED_AS
from gql_server.formats.sae_lens_config import MODEL_ARGUMENTS
from gql_server.formats.sae_sources.places import Places
from gql_server.jobs.descriptions import JobDescription, Subjects
from gql_server.jobs.handler import JobHandler
from gql_server.protocol.results import ExportResult
from gql_server.protocol.tasks import ExportSae
from gql_server.services import artifacts, launching, lookup, quota
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.requests import ExportSaeRequest, Launched
from gql_server.tokens.options import facts_of
from models import ActivationRun, Job, LanguageModel, Sae
from models.enums import JobKind, LanguageModelSourceKind, ProgressUnit, SaeOrigin

_BYTES_PER_WEIGHT = 4
_WRITTEN_TWICE = 2
LIBRARIES = {"SAE_LENS": "SAELens", "MI_CROW": "mi_crow"}
"""What people call the library of a format."""


async def export(server: AppContext, request: ExportSaeRequest) -> Launched:
    """Queue an export.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    launch = await launching.begin(server, ExportHandler, request)
    if launch.earlier:
        return launch.earlier
    checks = Checks()
    checks.idempotency_key(request.idempotency_key)
    checks.done()
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
    _check(sae)
    assert sae.input_size is not None and sae.latent_count is not None
    n_bytes = _WRITTEN_TWICE * _BYTES_PER_WEIGHT * 2 * sae.input_size * sae.latent_count
    await asyncio.to_thread(quota.check, "saeId", n_bytes, "The export's files", server.settings)

    async def check(session: AsyncSession) -> None:
        _check(await lookup.get(session, Sae, sae.id))

    return await launch.queue(
        request={"language_model_id": sae.language_model_id, "format": request.format},
        works_on=sae.id,
        check=check,
    )


def _check(sae: Sae) -> None:
    lookup.check_ready(sae)
    if sae.output_layer is not None:
        raise Conflict(
            f"It is a transcoder, which writes {sae.output_layer}: only SAEs, which give back the layer that"
            " they read, can be exported.",
            sae.id,
        )
    if sae.sae_class not in EXPORTED_AS:
        known = ", ".join(EXPORTED_AS)
        raise Conflict(
            f"SAELens has no architecture for the class {sae.sae_class}; {known} can be exported.", sae.id
        )


class ExportHandler(JobHandler[ExportSae, ExportResult]):
    """EXPORT_SAE jobs. Until one succeeds, the SAE has the export before."""

    kind = JobKind.EXPORT_SAE
    description = "Writes an SAE in another format."
    lane = "interactive"
    unit = ProgressUnit.BYTES
    task = ExportSae
    result = ExportResult

    @classmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Name the SAE and the other library."""
        format = job.request.get("format", "SAE_LENS")
        return JobDescription(f"Export {about.sae_name} for {LIBRARIES[format]}", {"format": format})

    async def begin(self, session: AsyncSession, job: Job) -> ExportSae:
        """Return the task; the SAE stays as it is."""
        sae = await session.get_one(Sae, job.artifact_id)
        format = job.request["format"]
        return ExportSae(
            sae=artifacts.sae_source(self._settings, sae),
            format=format,
            path=str(artifacts.export_path(self._settings, sae, format)),
            metadata=await _metadata(session, sae),
            min_free_bytes=self._settings.min_free_bytes,
            attempt=job.attempt,
        )

    async def keep(self, session: AsyncSession, job: Job, result: ExportResult) -> None:
        """Keep what was written, in the place of what was written before in the same format."""
        sae = await session.get_one(Sae, job.artifact_id)
        format = job.request["format"]
        export = {
            "format": format,
            "byte_size": result.byte_size,
            "created_at": datetime.now(UTC).isoformat(),
        }
        sae.exports = [export, *(one for one in sae.exports or [] if one["format"] != format)]

    async def is_lost(self, session: AsyncSession, job: Job) -> bool:
        """Whether the file is missing that was there."""
        sae = await session.get(Sae, job.artifact_id)
        if sae is None:
            return False
        path = artifacts.export_path(self._settings, sae, job.request["format"])
        return not await asyncio.to_thread(path.is_file)

    async def requeue(self, session: AsyncSession, job: Job) -> None:
        """Check that there still is what was to be exported."""
        _check(await lookup.get(session, Sae, job.artifact_id))


def _prepends_bos(language_model: LanguageModel, run: ActivationRun | None) -> bool | None:
    """Return whether a BOS stood before the texts that an SAE was trained on; None where that is not known.

    Of an SAE without a run it is said how the language model's texts begin now.
    """
    facts = facts_of(language_model.tokenizer)
    if facts is None:
        return None
    asked = (run.provenance or {}).get("add_bos") if run else language_model.add_bos
    return bool(facts.edges(asked).begin)


async def _metadata(session: AsyncSession, sae: Sae) -> dict[str, Any]:
    """Return what cfg.json says of where an SAE belongs, in SAELens' words where it has some."""
    language_model = await session.get_one(LanguageModel, sae.language_model_id)
    run = await session.get(ActivationRun, sae.activation_run_id) if sae.activation_run_id else None
    from_hub = language_model.source_kind == LanguageModelSourceKind.HUGGING_FACE
    return {
        "model_name": language_model.source if from_hub else language_model.name,
        "hook_name": Places(language_model.layers or []).hooks().get(sae.layer),
        "mi_crow_layer": sae.layer,
        "context_size": run.max_length if run else None,
        "prepend_bos": _prepends_bos(language_model, run),
        # No arguments: sae-lens then leaves the model's weights as they were in the training here.
        MODEL_ARGUMENTS: {} if sae.origin == SaeOrigin.TRAINED else None,
        "sae_class": sae.sae_class,
        "gql_server_version": __version__,
    }
