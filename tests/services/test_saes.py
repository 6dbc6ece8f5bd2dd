"""SAEs: what goes with one that is deleted, and what keeps one from being deleted."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gql_server import ids
from gql_server.errors import Conflict
from gql_server.jobs.executor import TaskFailure
from gql_server.protocol.tasks import TrainSae
from gql_server.protocol.wire import TaskFailed
from gql_server.services import concept_configs, concepts, jobs, neuron_indexes, saes
from gql_server.services.app_context import AppContext
from gql_server.services.requests import IndexRequest, SaveConceptConfigRequest, SetConceptRequest
from gql_server.services.unused_names import unused_name
from models import (
    Concept,
    ConceptConfig,
    ConceptRevision,
    NeuronIndex,
    Sae,
    SaeEvaluation,
    SaeNumber,
    TrainingPoint,
)
from models.base import Base
from models.enums import ArtifactStatus
from tests.support.fake_executor import FakeExecutor
from tests.support.requests import train_request
from tests.support.serving import add_language_model, add_run, add_sae, serving

OF_AN_SAE: tuple[type[Base], ...] = (
    Concept,
    ConceptConfig,
    ConceptRevision,
    NeuronIndex,
    SaeEvaluation,
    SaeNumber,
    TrainingPoint,
)


async def add_all_of(server: AppContext, sae: Sae) -> None:
    """Give an SAE a row in each table that hangs on it."""
    for name in ("colors", "paint"):
        await concepts.set_concept(server, SetConceptRequest(sae.id, 3, name, None, None, None))
    await concept_configs.save(server, SaveConceptConfigRequest(None, sae.id, "c", [], None, False))
    async with server.database.write() as session:
        index = NeuronIndex(id=ids.new(ids.NEURON_INDEX), sae_id=sae.id, top_texts_per_neuron=1)
        index.status = ArtifactStatus.READY
        point = TrainingPoint(
            sae_id=sae.id, step=1, epoch=0, token_count=1, l0=1.0, learning_rate=0.1, tokens_per_second=1.0
        )
        evaluation = SaeEvaluation(id=ids.new(ids.EVALUATION), sae_id=sae.id, result={})
        session.add_all([index, point, evaluation])


async def rows_of(server: AppContext, sae_id: str) -> dict[str, int]:
    found = {}
    async with server.database.read() as session:
        for table in OF_AN_SAE:
            query = select(func.count()).select_from(table).where(table.__table__.c.sae_id == sae_id)
            found[table.__tablename__] = await session.scalar(query) or 0
    return found


def test_every_table_that_refers_to_an_sae_is_known_here() -> None:
    referring = {
        table.name
        for table in Base.metadata.tables.values()
        if any(key.target_fullname == "saes.id" for key in table.foreign_keys)
    }
    assert referring == {table.__tablename__ for table in OF_AN_SAE}


async def test_what_hangs_on_a_deleted_sae_goes_with_it_and_nothing_of_another(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server))
        first, other = await add_sae(server, run), await add_sae(server, run)
        for sae in (first, other):
            await add_all_of(server, sae)
        assert set((await rows_of(server, first.id)).values()) == {1}
        await saes.delete(server, first.id)
        assert set((await rows_of(server, first.id)).values()) == {0}
        assert set((await rows_of(server, other.id)).values()) == {1}
        async with server.database.read() as session:
            assert await session.get(Sae, first.id) is None


async def test_an_sae_that_a_request_uses_is_deleted_only_after_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add_sae(server, await add_run(server, await add_language_model(server)))
        await add_all_of(server, sae)
        with server.in_use.by_request(sae.id), pytest.raises(Conflict, match="uses this SAE"):
            await saes.delete(server, sae.id)
        assert set((await rows_of(server, sae.id)).values()) == {1}, "a refusal takes nothing away"
        await saes.delete(server, sae.id)


async def test_an_sae_that_a_job_works_on_is_not_deleted_and_the_refusal_names_the_job(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server))
        sae, other = await add_sae(server, run), await add_sae(server, run)
        job = (await neuron_indexes.index(server, IndexRequest(sae.id, run.id, 10, None))).job
        with pytest.raises(Conflict) as refusal:
            await saes.delete(server, sae.id)
        assert refusal.value.id == job.id
        await saes.delete(server, other.id)


async def test_a_name_made_by_default_is_unique_and_a_given_one_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server), name="r" * 200)
        request = train_request(run.id)
        names = []
        for given in (None, None, "mine", "mine", None):
            job = (await saes.train(server, replace(request, name=given))).job
            async with server.database.read() as session:
                names.append((await session.get_one(Sae, job.artifact_id)).name)
    first = f"TopKSae 64 on {'r' * 200}"[:200]
    assert names == [first, f"{first[:190]} (2)", "mine", "mine", f"{first[:190]} (3)"]


async def test_a_name_that_begins_another_is_free(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        run = await add_run(server, await add_language_model(server))
        for name in ("50% of a_b", "50% of a_b (3)", "50 of axb"):
            await add_sae(server, run, name=name)
        async with server.database.read() as session:
            found = [await unused_name(session, Sae, name) for name in ("50% of a_b", "50%", "50 of a_b")]
    assert found == ["50% of a_b (2)", "50%", "50 of a_b"]


async def test_the_nested_groups_that_are_asked_for_go_to_the_worker(tmp_path: Path) -> None:
    failed = TaskFailure(TaskFailed(1, "FAILED", "It cannot be trained.", [], ""))
    executor = FakeExecutor(lambda task, run: run.finish(failed))
    async with serving(tmp_path, executor) as server:
        run = await add_run(server, await add_language_model(server))
        request = replace(train_request(run.id), sae_class="BatchTopKSae", group_fractions=[0.25, 0.75])
        launched = await saes.train(server, request)
        async for _ in jobs.watch(server, launched.job.id, 0):
            pass
        (task,) = [task for _, task in executor.tasks]
        assert isinstance(task, TrainSae) and task.group_fractions == [0.25, 0.75]
