"""Changes are told to who watches: each committed one, in order, in bounded memory, and nothing undone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import delete, update

from gql_server import ids
from gql_server.api.context import Context
from gql_server.api.schema import schema
from gql_server.database import changes
from gql_server.database.changes import Change, ChangeKind, ChangeWatcher, NodeKind
from gql_server.jobs import event_log, progress
from gql_server.protocol.events import Progress
from gql_server.services import concept_configs, concepts, names, saes
from gql_server.services.app_context import AppContext
from gql_server.services.requests import SaveConceptConfigRequest, SetConceptRequest
from models import Concept, Job, LanguageModel, NeuronIndex, StoredDataset
from models.enums import ArtifactStatus, ConceptSource, JobEventType, JobStatus
from tests.support.job_logs import add_job, append_events
from tests.support.serving import add_language_model, add_run, add_sae
from tests.support.waiting import until

CHANGES = """subscription($kinds: [NodeKind!]) { changes(kinds: $kinds) {
  change kind id node { id ... on Sae { name } ... on LanguageModel { name } } } }"""


@asynccontextmanager
async def watched(server: AppContext, kinds: list[str] | None = None) -> AsyncIterator[Callable[[], Any]]:
    """Give a function that returns the next change; the first, RELOAD, has come when the block begins."""
    async with aclosing(await schema.subscribe(CHANGES, {"kinds": kinds}, Context(server))) as results:

        async def next_one() -> dict[str, Any]:
            async with asyncio.timeout(10):
                result = await anext(results)
            assert result.errors is None and result.data, result.errors
            return dict(result.data["changes"])

        assert await next_one() == {"change": "RELOAD", "kind": None, "id": None, "node": None}
        yield next_one


def short(change: dict[str, Any]) -> tuple[str, str, str]:
    return change["change"], change["kind"], change["id"]


async def test_what_is_made_renamed_and_deleted_is_told_with_its_node(
    server: AppContext,
) -> None:
    async with watched(server) as next_one:
        model = await add_language_model(server)
        assert await next_one() == {
            "change": "CREATED",
            "kind": "LANGUAGE_MODEL",
            "id": model.id,
            "node": {"id": model.id, "name": "tiny"},
        }
        dataset = StoredDataset(
            id=ids.new(ids.DATASET), name="d", byte_size=1, sample_count=1, skipped_count=0, column_names=[]
        )
        async with server.database.write() as session:
            session.add(dataset)
        assert short(await next_one()) == ("CREATED", "STORED_DATASET", dataset.id)
        run = await add_run(server, model)
        assert short(await next_one()) == ("CREATED", "ACTIVATION_RUN", run.id)
        sae = await add_sae(server, run)
        assert short(await next_one()) == ("CREATED", "SAE", sae.id)
        await names.rename(server, sae.id, "better")
        renamed = await next_one()
        assert (short(renamed), renamed["node"]["name"]) == (("UPDATED", "SAE", sae.id), "better")
        await concepts.set_concept(server, SetConceptRequest(sae.id, 3, "red", None, None, None))
        assert short(await next_one())[:2] == ("CREATED", "CONCEPT")
        config = SaveConceptConfigRequest(None, sae.id, "c", [], None, False)
        await concept_configs.save(server, config)
        assert short(await next_one())[:2] == ("CREATED", "CONCEPT_CONFIG")
        await saes.delete(server, sae.id)
        gone = [await next_one() for _ in range(3)]
        assert {short(change)[:2] for change in gone} == {
            ("DELETED", "CONCEPT"),
            ("DELETED", "CONCEPT_CONFIG"),
            ("DELETED", "SAE"),
        }
        assert [change["node"] for change in gone] == [None] * 3


async def test_rows_that_one_statement_changes_are_told_one_by_one(server: AppContext) -> None:
    models = [await add_language_model(server, f"m{number}") for number in range(3)]
    async with watched(server) as next_one:
        async with server.database.write() as session:
            await session.execute(update(LanguageModel).values(status_message="so"))
        told = [short(await next_one()) for _ in models]
    assert told == [("UPDATED", "LANGUAGE_MODEL", model.id) for model in models]


async def test_several_changes_in_a_transaction_are_told_as_one_and_what_came_and_went_not_at_all(
    server: AppContext,
) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    async with watched(server) as next_one:
        async with server.database.write() as session:
            row = concept_row(sae.id, 1)
            session.add(row)
            await session.flush()
            row.name = "other"
            fleeting = concept_row(sae.id, 2)
            session.add(fleeting)
            await session.flush()
            await session.delete(fleeting)
        assert short(await next_one()) == ("CREATED", "CONCEPT", row.id)
        await names.rename(server, sae.id, "last")
        assert short(await next_one()) == ("UPDATED", "SAE", sae.id)


def concept_row(sae_id: str, neuron: int) -> Concept:
    id = ids.new(ids.CONCEPT)
    return Concept(id=id, sae_id=sae_id, neuron_index=neuron, name="n", source=ConceptSource.MANUAL)


async def test_what_is_undone_is_not_told(server: AppContext) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    async with watched(server) as next_one:
        with suppress(LookupError):
            async with server.database.write() as session:
                session.add(concept_row(sae.id, 1))
                await session.flush()
                raise LookupError
        await names.rename(server, sae.id, "told")
        assert short(await next_one()) == ("UPDATED", "SAE", sae.id)


async def test_only_the_kinds_that_were_asked_for_are_told(server: AppContext) -> None:
    async with watched(server, ["ACTIVATION_RUN"]) as next_one:
        run = await add_run(server, await add_language_model(server))
        assert short(await next_one()) == ("CREATED", "ACTIVATION_RUN", run.id)


async def test_a_job_is_told_by_its_status_and_not_by_its_progress(server: AppContext) -> None:
    async with watched(server) as next_one:
        job = await add_job(server)
        assert short(await next_one()) == ("CREATED", "JOB", job.id)
        async with server.database.write() as session:
            row = await session.get_one(Job, job.id)
            progress.take_in(row, Progress(1, 2))
            await event_log.append(session, row, JobEventType.PROGRESS, progress.payload(row))
        await append_events(server, job.id, 3)
        other = await add_job(server)
        assert short(await next_one()) == ("CREATED", "JOB", other.id), "progress was told"
        await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
        assert short(await next_one()) == ("UPDATED", "JOB", job.id)


async def test_an_index_that_changes_is_a_change_of_its_sae(server: AppContext) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    async with watched(server) as next_one:
        for work in ("made", "ready", "gone"):
            async with server.database.write() as session:
                if work == "made":
                    index = NeuronIndex(id=ids.new(ids.NEURON_INDEX), sae_id=sae.id, top_texts_per_neuron=3)
                    session.add(index)
                elif work == "ready":
                    (await session.get_one(NeuronIndex, index.id)).status = ArtifactStatus.READY
                else:
                    await session.execute(delete(NeuronIndex).where(NeuronIndex.sae_id == sae.id))
            assert short(await next_one()) == ("UPDATED", "SAE", sae.id), work


async def test_more_than_may_be_of_one_transaction_is_a_reload_for_all(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_PENDING", 3)
    async with watched(server, ["CONCEPT"]) as next_one:
        sae = await add_sae(server, await add_run(server, await add_language_model(server)))
        async with server.database.write() as session:
            session.add_all([concept_row(sae.id, neuron) for neuron in range(4)])
        assert (await next_one())["change"] == "RELOAD"
        async with server.database.write() as session:
            session.add(row := concept_row(sae.id, 9))
        assert short(await next_one()) == ("CREATED", "CONCEPT", row.id)


async def test_who_does_not_read_is_told_to_reload_and_then_of_what_comes_after_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "MAX_PENDING", 3)
    watcher = ChangeWatcher(None)
    assert (await watcher.next()).change == ChangeKind.RELOAD

    def tell(change: ChangeKind, *numbers: int) -> None:
        watcher.tell([Change(change, NodeKind.SAE, f"sae_{number}") for number in numbers])

    tell(ChangeKind.CREATED, 1, 2)
    tell(ChangeKind.UPDATED, 2, 3)
    tell(ChangeKind.DELETED, 1)
    told = [await watcher.next() for _ in range(2)]
    assert [(one.change, one.id) for one in told] == [("CREATED", "sae_2"), ("UPDATED", "sae_3")]
    for number in range(100):
        tell(ChangeKind.CREATED, number)
        assert len(watcher._pending.changes) <= 3
    assert await watcher.next() == Change(ChangeKind.RELOAD)
    tell(ChangeKind.UPDATED, 7)
    assert (await watcher.next()).id == "sae_7"


async def test_who_has_gone_is_not_kept(server: AppContext) -> None:
    async with watched(server):
        assert len(server.database.changes._watchers) == 1
    await until(lambda: not server.database.changes._watchers)


async def test_a_write_that_changes_nothing_is_not_looked_through(server: AppContext) -> None:
    await add_language_model(server)
    for _ in range(2):
        async with server.database.write() as session:
            await session.connection()
            has_changed = await changes._has_changed(session)
    assert not has_changed


async def test_what_nobody_watches_is_not_kept(server: AppContext) -> None:
    await add_language_model(server)
    async with server.database.write() as session:
        assert await changes.take_noted(session) == []
