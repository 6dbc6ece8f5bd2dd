"""Retrying a job whose language model has other files by now than what it is paired with was made with."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gql_server.artifacts.provenance import FileHash, to_json
from gql_server.errors import Conflict
from gql_server.jobs.handler import Handler
from gql_server.services import jobs, launching, model_identity
from gql_server.services.activation_runs import CaptureHandler
from gql_server.services.app_context import AppContext
from gql_server.services.evaluations import EvaluationHandler
from gql_server.services.neuron_indexes import IndexHandler
from gql_server.services.saes import TrainHandler
from models.enums import JobStatus
from tests.support.serving import add_language_model, add_run, add_sae, serving


async def failed_job(server: AppContext, handler: type[Handler], model: Path, of_now: bool) -> str:
    """Add a job that has failed, on what was made with the model's files as they are or as they were."""
    language_model = await add_language_model(server, source=str(model))
    made_with = await model_identity.present(server, language_model)
    assert made_with is not None
    if not of_now:
        made_with = msgspec.structs.replace(made_with, files=[FileHash("model.safetensors", 1, "0" * 64)])
    columns: dict[str, Any] = {"made_with": to_json(made_with)}
    run = await add_run(server, language_model, batch_count=1, **columns)
    sae = await add_sae(server, run, **columns)
    result = run if handler is CaptureHandler else sae
    request = {"language_model_id": language_model.id, "texts_kept": True}
    job = launching.new_job(handler, artifact_id=result.id, request=request, status=JobStatus.FAILED)
    job.last_sequence = 0
    async with server.database.write() as session:
        session.add(job)
    return job.id


@pytest.mark.parametrize("handler", [CaptureHandler, IndexHandler, EvaluationHandler])
async def test_what_pairs_a_language_model_is_not_retried_with_other_files(
    tmp_path: Path, tiny_model_dir: Path, handler: type[Handler]
) -> None:
    async with serving(tmp_path, model_dirs=[tiny_model_dir]) as server:
        job = await failed_job(server, handler, tiny_model_dir, of_now=False)
        with pytest.raises(Conflict, match="with other files of the language model"):
            await jobs.retry(server, job)


@pytest.mark.parametrize(
    ("handler", "of_now"), [(CaptureHandler, True), (EvaluationHandler, True), (TrainHandler, False)]
)
async def test_others_are_retried(
    tmp_path: Path, tiny_model_dir: Path, handler: type[Handler], of_now: bool
) -> None:
    async with serving(tmp_path, model_dirs=[tiny_model_dir]) as server:
        await server.supervisor.close()
        job = await failed_job(server, handler, tiny_model_dir, of_now)
        assert (await jobs.retry(server, job)).job.status == JobStatus.QUEUED


async def test_models_that_are_looked_at_together_are_told_apart(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model_dir, other)
    (other / "config.json").write_bytes((other / "config.json").read_bytes() + b"\n")
    async with serving(tmp_path / "artifacts", model_dirs=[tiny_model_dir, tmp_path]) as server:
        models = [
            await add_language_model(server, name, source=str(directory))
            for name, directory in (("tiny", tiny_model_dir), ("other", other))
        ]
        together = await asyncio.gather(*(model_identity.present(server, model) for model in models))
        alone = [await model_identity.present(server, model) for model in models]
    assert together == alone
    assert together[0] != together[1]
