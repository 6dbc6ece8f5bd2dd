"""Subscribers who ask the same of an event share its execution, and nobody gets what another asked for."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, parse
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types import ExecutionResult
from websockets.asyncio.client import ClientConnection, connect

from gql_server.api import jobs as job_fields
from gql_server.api.context import Context
from gql_server.api.operations.execution import SharedData
from gql_server.api.operations.variables import used_within_events
from gql_server.api.schema import schema
from gql_server.services import jobs as job_service
from gql_server.services.app_context import AppContext
from gql_server.services.single_flight import SingleFlight
from models import Job
from models.enums import JobStatus
from tests.api.asking import follow
from tests.support.job_logs import add_job, append_events, watched_by
from tests.support.serving import add_language_model, idle_job
from tests.support.waiting import until

SUBSCRIBERS = 20
DOCUMENT = """subscription($id: ID!, $after: Int = 0, $status: Boolean = true) {
  jobProgress(id: $id, after: $after) {
    sequence job { id status @include(if: $status) result { ... on LanguageModel { name } } } } }"""


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list that the number of each event is put into when it is executed."""
    numbers: list[int] = []
    execute = StrawberryGraphQLCoreExecutionContext.execute_operation

    def counted(self: Any, serially: bool | None = None) -> Any:
        numbers.append(getattr(self.root_value, "sequence", 0))
        return execute(self, serially)

    monkeypatch.setattr(StrawberryGraphQLCoreExecutionContext, "execute_operation", counted)
    return numbers


def data_of(results: list[ExecutionResult]) -> list[dict[str, Any]]:
    assert all(result.errors is None for result in results)
    return [result.data["jobProgress"] for result in results if result.data]


@asynccontextmanager
async def following(
    server: AppContext, job_id: str, variables: list[dict[str, Any]], document: str = DOCUMENT
) -> AsyncIterator[asyncio.Future[list[list[ExecutionResult]]]]:
    """Give what subscribers get, who have all come when the block begins."""
    asked = [follow(server, document, **({"id": job_id} | one)) for one in variables]
    answers = asyncio.gather(*asked)
    async with asyncio.timeout(30):
        await until(lambda: watched_by(server, job_id) == len(variables))
        yield answers


async def test_the_same_asked_by_many_is_executed_once_an_event(
    server: AppContext, executed: list[int]
) -> None:
    job = await add_job(server, 1)
    async with following(server, job.id, [{}] * SUBSCRIBERS) as answers:
        await append_events(server, job.id, 3, JobStatus.SUCCEEDED)
        got = [data_of(one) for one in await answers]
    assert [event["sequence"] for event in got[0]] == [1, 2, 3, 4, 5]
    assert got == [got[0]] * SUBSCRIBERS
    assert {sequence: executed.count(sequence) for sequence in (2, 3, 4, 5)} == {2: 1, 3: 1, 4: 1, 5: 1}
    assert not server.answers._calls


async def test_cursors_do_not_keep_subscribers_apart(server: AppContext, executed: list[int]) -> None:
    job = await add_job(server, 3)
    async with following(server, job.id, [{"after": after} for after in (0, 1, 2, 3)]) as answers:
        executed.clear()
        await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
        got = [[event["sequence"] for event in data_of(one)] for one in await answers]
    assert got == [[1, 2, 3, 4], [2, 3, 4], [3, 4], [4]]
    assert executed.count(4) == 1


async def test_what_is_asked_in_another_way_is_answered_in_that_way(
    server: AppContext, executed: list[int]
) -> None:
    job = await add_job(server)
    async with following(server, job.id, [{"status": True}, {"status": False}] * 5) as answers:
        await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
        got = [data_of(one) for one in await answers]
    plain: dict[str, Any] = {"id": job.id, "result": None}
    for place, events in enumerate(got):
        shown = plain if place % 2 else plain | {"status": "SUCCEEDED"}
        assert events == [{"sequence": 1, "job": shown}]
    assert executed == [1, 1]


async def test_another_operation_of_the_same_document_is_answered_by_itself(server: AppContext) -> None:
    job = await add_job(server)
    document = """subscription a($id: ID!) { jobProgress(id: $id) { sequence } }
      subscription b($id: ID!) { jobProgress(id: $id) { number: sequence } }"""

    async def asked(name: str) -> list[Any]:
        stream = await schema.subscribe(document, {"id": job.id}, Context(server), operation_name=name)
        return [result.data async for result in stream]

    both = asyncio.gather(*(asked(name) for name in "ab"))
    await until(lambda: watched_by(server, job.id) == 2)
    await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
    assert await both == [[{"jobProgress": {"sequence": 1}}], [{"jobProgress": {"number": 1}}]]


async def test_an_error_is_told_to_each_subscriber_under_a_reference_of_its_own(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await add_job(server)

    async def broken(*_: Any) -> None:
        raise RuntimeError("something private")

    monkeypatch.setattr(job_fields, "job_of", broken)
    async with following(server, job.id, [{}] * 4) as answers:
        await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
        results = [one[0] for one in await answers]
    errors = [error for result in results for error in result.errors or []]
    assert [error.extensions["code"] for error in errors if error.extensions] == ["INTERNAL"] * 4
    assert len({error.extensions["reference"] for error in errors if error.extensions}) == 4
    assert "private" not in str(errors)


async def test_what_has_been_written_since_is_seen(server: AppContext) -> None:
    model = await add_language_model(server, "old")
    job = idle_job(result_id=model.id, last_sequence=0)
    async with server.database.write() as session:
        session.add(job)
    async with following(server, job.id, [{}] * 2) as answers:
        before = server.event_hub.snapshot_key(job.id, 1)
        async with server.database.write() as session:
            (await session.merge(model)).name = "new"
        assert before is not None and server.event_hub.snapshot_key(job.id, 1) != before
        await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
        got = [data_of(one) for one in await answers]
    assert [one[0]["job"]["result"]["name"] for one in got] == ["new", "new"]


async def test_who_watches_alone_shares_with_nobody(server: AppContext) -> None:
    job = await add_job(server)
    async with following(server, job.id, [{}]) as answers:
        assert server.event_hub.snapshot_key(job.id, 1) is None
        await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
        assert len((await answers)[0]) == 1
    assert server.event_hub.snapshot_key(job.id, 1) is None


async def test_a_subscriber_that_leaves_takes_nothing_from_those_who_wait_for_its_answer() -> None:
    calls: SingleFlight[str] = SingleFlight()
    begun: list[str] = []

    async def work(name: str, goes_on: asyncio.Event) -> str:
        begun.append(name)
        await goes_on.wait()
        return name

    never, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    leaving = asyncio.create_task(calls.do("key", lambda: work("leaving", never)))
    others = [asyncio.create_task(calls.do("key", lambda: work("staying", at_once))) for _ in range(2)]
    await until(lambda: begun == ["leaving"])
    others[0].cancel()
    leaving.cancel()
    await asyncio.wait([leaving, *others])
    assert leaving.cancelled() and others[0].cancelled()
    assert others[1].result() == "staying"
    assert not calls._calls


@asynccontextmanager
async def subscribed_twice(
    server: AppContext, address: tuple[str, int], job_id: str, ids: tuple[str, str]
) -> AsyncIterator[ClientConnection]:
    """Give a socket with two subscriptions to a job, which have begun."""
    document = "subscription($id: ID!) { jobProgress(id: $id) { sequence ... on JobLogged { message } } }"
    payload = {"query": document, "variables": {"id": job_id}}
    protocols: Any = ["graphql-transport-ws"]
    url = f"ws://127.0.0.1:{address[1]}/graphql"
    async with asyncio.timeout(30), connect(url, subprotocols=protocols) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        for id in ids:
            await socket.send(json.dumps({"type": "subscribe", "id": id, "payload": payload}))
        await until(lambda: job_id in server.event_hub._feeds and watched_by(server, job_id) == 2)
        yield socket


async def test_a_socket_sends_a_shared_answer_under_each_subscriptions_own_id(
    server: AppContext, address: tuple[str, int], executed: list[int]
) -> None:
    job = await add_job(server)
    ids = ("1", 'a "quoted" \u00fc')
    async with subscribed_twice(server, address, job.id, ids) as socket:
        await append_events(server, job.id, 2, JobStatus.SUCCEEDED)
        messages = [json.loads(await socket.recv()) for _ in range(8)]
    data = [{"sequence": 1, "message": "so"}, {"sequence": 2, "message": "so"}, {"sequence": 3}]
    for id in ids:
        first, *others, last = [message for message in messages if message["id"] == id]
        assert first["payload"].pop("extensions")["cost"]["estimated"] > 0
        assert [one["payload"] for one in (first, *others)] == [
            {"data": {"jobProgress": one}} for one in data
        ]
        assert {one["type"] for one in (first, *others)} == {"next"}
        assert last == {"id": id, "type": "complete"}
    assert executed == [1, 2, 3]


async def test_of_shared_answers_only_the_last_is_kept_until_the_next_comes(
    server: AppContext, address: tuple[str, int], executed: list[int]
) -> None:
    job = await add_job(server)
    async with subscribed_twice(server, address, job.id, ("1", "2")) as socket:
        await append_events(server, job.id, 50)
        for _ in range(100):
            assert json.loads(await socket.recv())["type"] == "next"
        assert len(executed) == 50
        assert sum(type(found) is SharedData for found in gc.get_objects()) <= 2


async def test_those_who_watch_all_jobs_share_reads_and_answers(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await add_job(server)
    shown, reads, read = 0, 0, job_service._read_changed

    async def counted(server: AppContext, revision: int) -> list[Job]:
        nonlocal reads
        reads += 1
        return await read(server, revision)

    monkeypatch.setattr(job_service, "_read_changed", counted)

    async def watch(kinds: list[str]) -> list[Any]:
        document = "subscription($kinds: [JobKind!]) { jobs(kind: $kinds) { id status attempt } }"
        stream = await schema.subscribe(document, {"kinds": kinds}, Context(server))
        nonlocal shown
        got: list[Any] = []
        async for result in stream:
            shown += 1
            assert result.data is not None
            got.append(result.data["jobs"]["status"])
            if len(got) == 2:
                break
        await stream.aclose()
        return got

    asked = [["CAPTURE_ACTIVATIONS"], ["CAPTURE_ACTIVATIONS", "TRAIN_SAE"]] * 10
    watching = asyncio.gather(*(watch(kinds) for kinds in asked))
    async with asyncio.timeout(30):
        await until(lambda: shown == len(asked))
        await append_events(server, job.id, 0, JobStatus.FAILED)
        assert await watching == [["RUNNING", "FAILED"]] * len(asked)
    assert reads < 10
    assert not server.changes._calls


@pytest.mark.parametrize(
    ("document", "used"),
    [
        ("subscription($id: ID!, $after: Int) { jobProgress(id: $id, after: $after) { at } }", set()),
        ("subscription($id: ID!) { jobProgress(id: $id) { at job { events(after: $id) { at } } } }", {"id"}),
        ("subscription($x: Boolean!) { jobProgress(id: 1) @skip(if: $x) { at } }", {"x"}),
        ("subscription { ...root } fragment root on Subscription { jobProgress(id: $id) { ...e } }"
         " fragment e on JobEvent { job { a(x: {y: [$v, 1]}) ...e } }", {"v"}),
        ("subscription { ... on Subscription @include(if: $i) { jobProgress(id: $id) {"
         " ... @skip(if: $s) { at } } } }", {"i", "s"}),
    ],
)  # fmt: skip
def test_the_subscribed_fields_own_arguments_do_not_count(document: str, used: set[str]) -> None:
    operation, *rest = parse(document).definitions
    assert isinstance(operation, OperationDefinitionNode)
    fragments = {node.name.value: node for node in rest if isinstance(node, FragmentDefinitionNode)}
    assert used_within_events(operation, fragments) == used
