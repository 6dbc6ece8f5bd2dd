"""SAEs in other libraries' formats, and their neurons: a ZIP file each, in the SAE's directory."""

import asyncio
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import __version__
from gql_server.artifacts.files import atomic_file
from gql_server.errors import Conflict
from gql_server.formats.sae_lens_config import MODEL_ARGUMENTS
from gql_server.formats.sae_sources.places import Places
from gql_server.formats.sae_targets import NEURONS, TARGETS, problem
from gql_server.jobs.descriptions import JobDescription, Subjects
from gql_server.jobs.handler import JobHandler
from gql_server.protocol.results import ExportResult
from gql_server.protocol.sources import NeuronName, NeuronsSource
from gql_server.protocol.tasks import ExportSae
from gql_server.services import artifacts, launching, lookup, neuron_tensors, quota
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.requests import ExportSaeRequest, Launched
from gql_server.tokens.options import facts_of
from models import ActivationRun, Concept, Job, LanguageModel, NeuronIndex, Sae
from models.enums import ArtifactStatus, JobKind, LanguageModelSourceKind, ProgressUnit, SaeOrigin

_BYTES_PER_WEIGHT = 4
_WRITTEN_TWICE = 2
_BYTES_PER_NEURON, _BYTES_PER_TEXT = 4096, 512
"""About what an index has of each, and so what its export takes at the most."""
_ROWS_AT_ONCE = 1000
LIBRARIES = {"MI_CROW": "mi_crow"} | {format: target.library for format, target in TARGETS.items()}
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
        index = await _check(session, sae, request.format)
    assert sae.input_size is not None and sae.latent_count is not None
    per_neuron = _BYTES_PER_WEIGHT * 2 * sae.input_size
    if index is not None:
        per_neuron = _BYTES_PER_NEURON + _BYTES_PER_TEXT * index.top_texts_per_neuron
    n_bytes = _WRITTEN_TWICE * per_neuron * sae.latent_count
    await asyncio.to_thread(quota.check, "saeId", n_bytes, "The export's files", server.settings)

    async def check(session: AsyncSession) -> None:
        await _check(session, await lookup.get(session, Sae, sae.id), request.format)

    return await launch.queue(
        request={"language_model_id": sae.language_model_id, "format": request.format},
        works_on=sae.id,
        check=check,
    )


async def _check(session: AsyncSession, sae: Sae, format: str) -> NeuronIndex | None:
    """Return the index whose neurons are written, if they are; Conflict where nothing can be."""
    lookup.check_ready(sae)
    if format in NEURONS:
        index = await _index_of(session, sae)
        if index is None:
            raise Conflict("The SAE's neurons have not been indexed; run indexNeurons first.", sae.id)
        return index
    if sae.output_layer is not None:
        raise Conflict(
            f"It is a transcoder, which writes {sae.output_layer}: only the weights of SAEs, which give back"
            " the layer that they read, can be exported; its neurons can.",
            sae.id,
        )
    if (refused := problem(format, sae.sae_class, sae.input_normalization)) is not None:
        raise Conflict(refused, sae.id)
    return None


async def _index_of(session: AsyncSession, sae: Sae) -> NeuronIndex | None:
    ready = NeuronIndex.status == ArtifactStatus.READY
    newest = select(NeuronIndex).where(NeuronIndex.sae_id == sae.id, ready).order_by(NeuronIndex.id.desc())
    return await session.scalar(newest.limit(1))


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
        if format in NEURONS:
            title = f"Export the neurons of {about.sae_name} {NEURONS[format]}"
        else:
            title = f"Export {about.sae_name} for {LIBRARIES[format]}"
        return JobDescription(title, {"format": format})

    async def begin(self, session: AsyncSession, job: Job) -> ExportSae:
        """Return the task; the SAE stays as it is."""
        sae = await session.get_one(Sae, job.artifact_id)
        format = job.request["format"]
        neurons = await self._neurons(session, sae, format) if format in NEURONS else None
        return ExportSae(
            sae=artifacts.sae_source(self._settings, sae),
            format=format,
            path=str(artifacts.export_path(self._settings, sae, format)),
            metadata=await _metadata(session, sae),
            min_free_bytes=self._settings.min_free_bytes,
            attempt=job.attempt,
            neurons=neurons,
        )

    async def _neurons(self, session: AsyncSession, sae: Sae, format: str) -> NeuronsSource:
        """Return where what is known of neurons lies; their names are written beside the export for it."""
        index = await _check(session, sae, format)
        assert index is not None
        run = await session.get(ActivationRun, index.activation_run_id) if index.activation_run_id else None
        settings = self._settings
        names = artifacts.export_path(settings, sae, format).with_suffix(".names")
        columns = (Concept.neuron_index, Concept.name, Concept.score, Concept.note, Concept.source)
        query = select(*columns).where(Concept.sae_id == sae.id).order_by(Concept.neuron_index)
        found = list[NeuronName]()
        async for part in (await session.stream(query)).partitions(_ROWS_AT_ONCE):
            found += [NeuronName(row[0], row[1], row[2], row[3], row[4].value) for row in part]
        await asyncio.to_thread(_write_names, names, found)
        depth = await _depth(session, sae)
        short = re.sub(r"[^a-z0-9]+", "-", sae.name.lower()).strip("-") or sae.id
        model_id = run.language_model_id if run else sae.language_model_id
        return NeuronsSource(
            index_path=str(neuron_tensors.path_of(settings, index.id)),
            top_texts_per_neuron=index.top_texts_per_neuron,
            dataset_dir=str(artifacts.dataset_directory(settings, run.id)) if run else None,
            tokenizer_dir=str(artifacts.copy_directory(settings, model_id)),
            begin_token_ids=(run.provenance or {}).get("begin_token_ids") if run else None,
            max_length=run.max_length if run else 1,
            names_path=str(names),
            source_name=short if depth is None else f"{depth}-{short}",
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
        sae = await lookup.get(session, Sae, job.artifact_id)
        await _check(session, sae, job.request["format"])


def _write_names(path: Path, names: Iterable[NeuronName]) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for name in names:
            file.write(msgspec.json.encode(name) + b"\n")


async def _depth(session: AsyncSession, sae: Sae) -> int | None:
    """Return the number of the block that the layer is or is in; None where it is in none."""
    language_model = await session.get_one(LanguageModel, sae.language_model_id)
    layer = next((one for one in language_model.layers or [] if one["name"] == sae.layer), None)
    depth: int | None = layer["depth"] if layer is not None else None
    return depth


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
