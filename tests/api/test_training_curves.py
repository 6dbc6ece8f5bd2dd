"""Curves of trainings: what columns and subscriptions tell is what the table has, at every moment."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import select

from gql_server.api.context import Context
from gql_server.api.schema import schema
from gql_server.jobs import event_log
from gql_server.protocol.events import TrainingPointMessage, TrainingResumed
from gql_server.services import training_curves
from gql_server.services.app_context import AppContext
from gql_server.services.saes import TrainHandler
from models import Job, Sae, TrainingPoint
from models.enums import JobEventType, JobKind
from tests.api.asking import ask, counted_statements, execute, first_error
from tests.support.curves import POINTS, CurveClient
from tests.support.serving import add_language_model, add_run, add_sae, idle_job
from tests.support.waiting import until

CURVES = """query($saes: [ID!]!, $max: Int!) { trainingCurves(saeIds: $saes, maxPoints: $max,
    metrics: [MSE, LOSS, DEAD_FRACTION]) {
  sae { id } sequence steps tokenCounts series { metric values } } }"""


def point_at(step: int, run: int = 0) -> TrainingPointMessage:
    """Return a point whose figures tell which attempt has made it."""
    mse = float("nan") if step % 5 == 0 else step / 7
    return TrainingPointMessage(step, 0, 100 * step, run + step / 8, mse, 0.5, 4.0, None, 0.1, 1000.0)


class Training:
    """A training whose worker is the test."""

    def __init__(self, server: AppContext, job: Job) -> None:
        self._server, self._handler = server, TrainHandler(server.settings)
        self.job_id, self.sae_id = job.id, job.artifact_id
        self.attempt = 0

    @classmethod
    async def begin(cls, server: AppContext, run: Any) -> "Training":
        sae = await add_sae(server, run)
        job = idle_job(kind=JobKind.TRAIN_SAE, artifact_id=sae.id, result_id=sae.id)
        async with server.database.write() as session:
            session.add(job)
            await session.flush()
            (await session.get_one(Sae, sae.id)).job_id = job.id
        return cls(server, job)

    async def tell(self, *events: TrainingPointMessage | TrainingResumed) -> None:
        """Write down events in one transaction, as the supervisor does."""
        async with self._server.database.write() as session:
            job = await session.get_one(Job, self.job_id)
            for event in events:
                await self._handler.record(session, job, event)
        self._server.notifier.notify()

    async def table(self) -> dict[int, float | None]:
        """Return the loss of each step of the history."""
        query = select(TrainingPoint).where(TrainingPoint.sae_id == self.sae_id).order_by(TrainingPoint.step)
        async with self._server.database.read() as session:
            return {point.step: point.loss for point in await session.scalars(query)}


@pytest.fixture
async def trainings(server: AppContext) -> list[Training]:
    run = await add_run(server, await add_language_model(server))
    return [await Training.begin(server, run) for _ in range(3)]


@asynccontextmanager
async def connected(server: AppContext, *clients: CurveClient) -> AsyncIterator[None]:
    """Have clients follow their SAEs over one subscription while the block runs."""
    by_id = {client.sae_id: client for client in clients}

    async def follow() -> None:
        variables = {"saes": [client.cursor for client in clients]}
        async for result in await schema.subscribe(POINTS, variables, Context(server)):
            assert result.errors is None, result.errors
            assert result.data
            sent = result.data["trainingPoints"]
            by_id[sent["saeId"]].take(sent)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def has_all(client: CurveClient, training: Training) -> None:
    """Wait until a client has the whole history, and nothing else."""
    expected = await training.table()
    async with asyncio.timeout(10):
        await until(lambda: {step: point["loss"] for step, point in client.points.items()} == expected)


# ------------------------------------------------------------------------------- following


async def test_points_above_a_step_come_first_and_then_those_that_are_made(
    server: AppContext, trainings: list[Training]
) -> None:
    first, second, _ = trainings
    await first.tell(*map(point_at, (1, 2, 3)))
    await second.tell(*map(point_at, (10, 20)))
    half = CurveClient(first.sae_id, {2: {"loss": point_at(2).loss}})
    whole = CurveClient(second.sae_id)
    async with connected(server, half, whole):
        async with asyncio.timeout(10):
            await until(lambda: half.steps == [2, 3] and whole.steps == [10, 20])
        await second.tell(point_at(30))
        await first.tell(point_at(4), point_at(5))
        async with asyncio.timeout(10):
            await until(lambda: half.steps == [2, 3, 4, 5] and whole.steps == [10, 20, 30])
    assert half.truncations == whole.truncations == []
    assert half.points[5] == {
        "step": 5,
        "tokenCount": 500,
        "loss": 5 / 8,
        "explainedVariance": 0.5,
        "tokensPerSecond": 1000.0,
    }


async def test_more_points_than_a_read_takes_come_all_the_same(
    server: AppContext, trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_curves, "POINTS_AT_ONCE", 3)
    clients = [CurveClient(training.sae_id) for training in trainings]
    for training, count in zip(trainings, (9, 2, 10), strict=True):
        await training.tell(*map(point_at, range(1, count + 1)))
    async with connected(server, *clients):
        for client, training in zip(clients, trainings, strict=True):
            await has_all(client, training)


async def test_what_a_resumed_training_takes_back_is_told_to_those_who_watch_and_those_who_were_away(
    server: AppContext, trainings: list[Training]
) -> None:
    training = trainings[0]
    watching, away, late = (CurveClient(training.sae_id) for _ in range(3))
    await training.tell(*map(point_at, range(1, 9)))
    async with connected(server, watching), connected(server, away):
        await has_all(watching, training)
        await has_all(away, training)
    async with connected(server, watching):
        # Point 4 was made again, as a snapshot before it was the last one.
        await training.tell(TrainingResumed(3, [*map(point_at, (1, 2, 3))]), point_at(4, run=1))
        await has_all(watching, training)
        assert watching.truncations == [3]
        async with connected(server, away), connected(server, late):
            await has_all(away, training)
            await has_all(late, training)
    assert (away.truncations, late.truncations) == ([3], [])
    assert away.points[4]["loss"] == late.points[4]["loss"] == point_at(4, run=1).loss


async def test_who_knows_of_a_truncation_is_not_told_again(
    server: AppContext, trainings: list[Training]
) -> None:
    training = trainings[0]
    client = CurveClient(training.sae_id)
    await training.tell(*map(point_at, range(1, 9)))
    async with connected(server, client):
        await has_all(client, training)
        await training.tell(TrainingResumed(3, [*map(point_at, (1, 2, 3))]), point_at(4, run=1))
        await has_all(client, training)
    async with connected(server, client):
        await training.tell(point_at(5, run=1))
        await has_all(client, training)
    assert client.truncations == [3]


async def test_points_of_a_snapshot_that_nobody_had_are_sent(
    server: AppContext, trainings: list[Training]
) -> None:
    training = trainings[0]
    client = CurveClient(training.sae_id)
    await training.tell(point_at(1))
    async with connected(server, client):
        await has_all(client, training)
        await training.tell(TrainingResumed(3, [*map(point_at, (1, 2, 3))]))
        await has_all(client, training)
    assert client.steps == [1, 2, 3]
    assert client.truncations == []


async def test_a_training_that_begins_anew_takes_back_everything(
    server: AppContext, trainings: list[Training]
) -> None:
    training = trainings[0]
    client = CurveClient(training.sae_id)
    await training.tell(*map(point_at, (1, 2)))
    async with connected(server, client):
        await has_all(client, training)
        await training.tell(TrainingResumed(0, []))
        await has_all(client, training)
        assert (client.points, client.truncations) == ({}, [0])


async def test_where_the_log_has_been_removed_a_reader_with_an_old_cursor_begins_anew(
    server: AppContext, trainings: list[Training]
) -> None:
    training = trainings[0]
    client = CurveClient(training.sae_id)
    await training.tell(*map(point_at, (1, 2)))
    async with connected(server, client):
        await has_all(client, training)
    await training.tell(TrainingResumed(1, [point_at(1)]), point_at(2, run=1))
    async with server.database.write() as session:
        job = await session.get_one(Job, training.job_id)
        job.removed_sequence = job.last_sequence
    async with connected(server, client):
        await has_all(client, training)
    assert client.truncations == [0]


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_all_clients_have_the_whole_curve_each_point_once_at_every_moment(
    server: AppContext, trainings: list[Training], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(training_curves, "POINTS_AT_ONCE", 4)
    chance, training = random.Random(seed), trainings[0]
    throughout, now_and_then = CurveClient(training.sae_id), CurveClient(training.sae_id)
    async with connected(server, throughout):
        for moment in range(12):
            table = await training.table()
            steps = list(table)
            if steps and chance.random() < 0.4:
                # The last snapshot may be older than the last point, or have points that were not sent.
                step = max(0, steps[-1] + chance.randrange(-6, 3))
                runs = {one: int((table.get(one) or 0) - one / 8) for one in steps}
                kept = [point_at(one, max(0, runs.get(one, moment))) for one in range(1, step + 1)]
                new = [point_at(step + one, run=moment) for one in range(1, chance.randrange(1, 4))]
                await training.tell(TrainingResumed(step, kept), *new)
            else:
                last = max(steps, default=0)
                await training.tell(*(point_at(last + one) for one in range(1, chance.randrange(2, 8))))
            await has_all(throughout, training)
            if chance.random() < 0.4:
                async with connected(server, now_and_then):
                    await has_all(now_and_then, training)
            async with connected(server, late := CurveClient(training.sae_id)):
                await has_all(late, training)
            assert late.truncations == []


async def test_nothing_is_read_but_the_jobs_where_nothing_has_happened(
    server: AppContext, trainings: list[Training]
) -> None:
    await trainings[0].tell(*map(point_at, (1, 2)))
    known: dict[str, int] = {}
    starts = [training_curves.Cursor(training.sae_id) for training in trainings]
    readings, is_all = await training_curves._read(server, starts, known)
    assert ([reading.cursor.step for reading in readings], is_all) == ([1, 2], True)
    with counted_statements(server) as statements:
        assert await training_curves._read(server, starts, known) == ([], True)
    assert len(statements) == 1, statements


@pytest.mark.parametrize(
    ("cursors", "path"),
    [
        ([], ["saes"]),
        ([{}] * 2, ["saes"]),
        ([{"saeId": f"sae_{number}"} for number in range(21)], ["saes"]),
        ([{"afterStep": -1}], ["saes", "0", "afterStep"]),
        ([{"afterSequence": -1}], ["saes", "0", "afterSequence"]),
    ],
)
async def test_cursors_that_cannot_be_are_refused(
    server: AppContext, trainings: list[Training], cursors: list[dict[str, Any]], path: list[str]
) -> None:
    variables = {"saes": [{"saeId": trainings[0].sae_id} | cursor for cursor in cursors]}
    async for result in await schema.subscribe(POINTS, variables, Context(server)):
        assert result.errors and result.errors[0].extensions
        assert result.errors[0].extensions["code"] == "INVALID_INPUT"
        assert result.errors[0].extensions["fields"][0]["path"] == path
        return
    raise AssertionError("nothing was sent")


async def test_an_sae_that_is_not_there_is_refused(server: AppContext) -> None:
    variables = {"saes": [{"saeId": "sae_gone"}]}
    async for result in await schema.subscribe(POINTS, variables, Context(server)):
        assert result.errors and result.errors[0].extensions
        assert result.errors[0].extensions["code"] == "NOT_FOUND"
        return
    raise AssertionError("nothing was sent")


# --------------------------------------------------------------------------------- columns


async def test_curves_have_the_figures_of_the_history_in_columns(
    server: AppContext, trainings: list[Training]
) -> None:
    first, second, empty = trainings
    await first.tell(*map(point_at, range(1, 11)))
    await second.tell(*map(point_at, (3, 6)))
    asked = [second.sae_id, "sae_gone", empty.sae_id, first.sae_id, first.sae_id]
    with counted_statements(server) as statements:
        curves = (await ask(server, CURVES, saes=asked, max=4))["trainingCurves"]
    assert [curve["sae"]["id"] for curve in curves] == [second.sae_id, empty.sae_id, first.sae_id]
    assert len(statements) == 3, statements  # Jobs, points and SAEs, however many.
    # Of ten points four: where n * 4 / 10, rounded down, goes up.
    steps = [step for step in range(1, 11) if step * 4 // 10 > (step - 1) * 4 // 10]
    assert curves[2]["steps"] == steps and steps[-1] == 10
    assert curves[2]["tokenCounts"] == [100 * step for step in steps]
    assert curves[2]["series"] == [
        {"metric": "MSE", "values": [None if step % 5 == 0 else step / 7 for step in steps]},
        {"metric": "LOSS", "values": [step / 8 for step in steps]},
        {"metric": "DEAD_FRACTION", "values": [None] * 4},
    ]
    assert curves[1]["steps"] == [] and curves[1]["series"][0] == {"metric": "MSE", "values": []}
    assert curves[0]["sequence"] == 2


async def test_a_curve_goes_on_where_its_columns_end(server: AppContext, trainings: list[Training]) -> None:
    training = trainings[0]
    await training.tell(*map(point_at, range(1, 6)))
    curve = (await ask(server, CURVES, saes=[training.sae_id], max=100))["trainingCurves"][0]
    points = {
        step: {"loss": loss} for step, loss in zip(curve["steps"], curve["series"][1]["values"], strict=True)
    }
    client = CurveClient(training.sae_id, points, curve["sequence"])
    await training.tell(TrainingResumed(3, [*map(point_at, (1, 2, 3))]), point_at(4, run=1))
    async with connected(server, client):
        await has_all(client, training)
    assert client.truncations == [3]


@pytest.mark.parametrize(
    ("n_saes", "max_points", "path"), [(1, 0, "maxPoints"), (1, 10_001, "maxPoints"), (21, 1, "saeIds")]
)
async def test_more_curves_or_points_than_there_may_be_are_refused(
    server: AppContext, n_saes: int, max_points: int, path: str
) -> None:
    error = await first_error(server, CURVES, saes=["sae_gone"] * n_saes, max=max_points)
    assert error["extensions"]["fields"][0]["path"] == [path]


# ----------------------------------------------------------------------------------- costs

ALL_OF_A_POINT = (
    "step epoch tokenCount loss mse explainedVariance l0 deadFraction learningRate tokensPerSecond"
)
ALL_METRICS = "LOSS MSE EXPLAINED_VARIANCE L0 DEAD_FRACTION LEARNING_RATE TOKENS_PER_SECOND"


async def cost(server: AppContext, query: str, **variables: Any) -> int:
    result = await execute(server, query, **variables)
    assert result.errors is None and result.extensions
    return int(result.extensions["cost"]["estimated"])


async def test_the_longest_history_and_the_longest_curves_are_within_the_limit(
    server: AppContext, trainings: list[Training]
) -> None:
    history = "query($id: ID!, $n: Int!) { sae(id: $id) { trainingHistory(maxPoints: $n) { %s } } }"
    sae = trainings[0].sae_id
    costs = [await cost(server, history % ALL_OF_A_POINT, id=sae, n=n) for n in (100, 10_000)]
    assert costs == [1 + 100 * 11 // 4, 1 + 10_000 * 11 // 4]
    curves = "query($ids: [ID!]!) { trainingCurves(saeIds: $ids, maxPoints: 10000, metrics: [%s]) {"
    all_columns = curves % ALL_METRICS + " steps tokenCounts series { metric values } } }"
    # A training has 200 points at most.
    read = (2 + 7) * 20
    assert await cost(server, all_columns, ids=[sae]) == read + 1 + 2 * 1_000 + 7 * (1 + 1 + 1_000)
    four = curves % "LOSS MSE L0 LOSS" + " steps series { values } } }"
    assert await cost(server, four, ids=[one.sae_id for one in trainings]) == 3 * (
        (2 + 3) * 20 + 1 + 1_000 + 3 * (1 + 1_000)
    )


@pytest.mark.parametrize(("max_points", "expected"), [(10_000, 200), (200, 200), (50, 50)])
async def test_curves_cost_what_is_read_for_them_whatever_is_selected(
    server: AppContext, trainings: list[Training], max_points: int, expected: int
) -> None:
    query = "query($ids: [ID!]!, $n: Int!) { trainingCurves(saeIds: $ids, maxPoints: $n, metrics: [%s]) {"
    query = query % ALL_METRICS + " sequence } }"
    ids = [one.sae_id for one in trainings]
    assert await cost(server, query, ids=ids, n=max_points) == 3 * (2 + (2 + 7) * expected // 10)


async def test_a_history_of_more_points_than_there_may_be_is_refused_by_its_range(
    server: AppContext, trainings: list[Training]
) -> None:
    query = "query($id: ID!) { sae(id: $id) { trainingHistory(maxPoints: 10001) { step } } }"
    error = await first_error(server, query, id=trainings[0].sae_id)
    assert error["extensions"]["code"] == "INVALID_INPUT"


async def test_a_resumed_event_is_logged_with_its_step(server: AppContext, trainings: list[Training]) -> None:
    await trainings[0].tell(point_at(1), TrainingResumed(0, []))
    async with server.database.read() as session:
        events = await event_log.read(session, trainings[0].job_id, 0, 10)
    assert [(event.type, event.payload.get("step")) for event in events] == [
        (JobEventType.TRAINING_POINT, 1),
        (JobEventType.TRAINING_RESUMED, 0),
    ]
