"""A real process at the other end of the socket, without torch in it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from gql_server.jobs import worker_process
from gql_server.jobs.executor import TaskCanceled, TaskFailure, TaskRun, WorkerLost, WorkerOutOfMemory
from gql_server.jobs.watchdog import WorkerTimeouts
from gql_server.jobs.worker_process import WorkerProcess
from gql_server.protocol.events import Log
from gql_server.protocol.results import Done
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import LoadLanguageModel, UnloadLanguageModel
from gql_server.protocol.wire import Lane
from gql_server.telemetry.telemetry import Telemetry
from tests.support.scraping import rendered

LOAD = LoadLanguageModel(LanguageModelSource("lm", "DIRECTORY", "/nowhere", None, "FLOAT32", "/nowhere"))


@asynccontextmanager
async def worker(
    *lanes: Lane,
    grace: float = 60,
    silence: float = 60,
    stall: float = 600,
    telemetry: Telemetry | None = None,
) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(
        lanes or ("interactive",),
        [],
        WorkerTimeouts(cancel=grace, silence=silence, stall=stall),
        lambda _: None,
        lambda: None,
        telemetry or Telemetry(),
        module="tests.jobs.scripted_worker",
    )
    try:
        yield process
    finally:
        await process.close(0)


async def ends(run: TaskRun) -> Any:
    async with asyncio.timeout(20):
        return await run.result()


async def heard_of(run: TaskRun) -> None:
    """Wait for a task's first event."""
    async for _ in run.batches():
        return


async def begun(run: TaskRun) -> None:
    async with asyncio.timeout(20):
        while not run.begun:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def do(name: str) -> UnloadLanguageModel:
    return UnloadLanguageModel(name)


async def test_tasks_are_done_in_order_and_what_is_printed_disturbs_nothing() -> None:
    async with worker() as process:
        runs = [await process.start("interactive", do(f"task {n}")) for n in range(20)]
        assert [await ends(run) for run in runs] == [Done()] * 20
        events = [event async for events in runs[7].batches() for event in events]
    assert events == [Log("task 7")]


async def test_a_worker_that_is_just_being_started_counts_the_tasks_it_will_have() -> None:
    async with worker() as process:
        starting = [asyncio.create_task(process.start("interactive", do("a task"))) for _ in range(2)]
        await asyncio.sleep(0)
        assert process.pid is None and process.task_count == 2
        runs = [await one for one in starting]
        assert process.task_count == 2
        for run in runs:
            await ends(run)
        assert process.task_count == 0


async def test_a_task_knows_how_many_wait_before_it() -> None:
    async with worker() as process:
        running = await process.start("interactive", do("until canceled"))
        await begun(running)
        waiting = [await process.start("interactive", do("next")) for _ in range(3)]
        assert [run.waiting_before for run in (running, *waiting)] == [0, 0, 1, 2]
        await process.cancel(running)


async def test_a_task_that_is_canceled_while_it_waits_disturbs_the_running_one_in_nothing() -> None:
    async with worker(grace=0.05) as process:
        running = await process.start("interactive", do("until canceled"))
        waiting = await process.start("interactive", LOAD)
        await begun(running)
        pid = process.pid
        await process.cancel(waiting)
        with pytest.raises(TaskCanceled):
            await ends(waiting)
        await asyncio.sleep(0.2)  # Longer than the grace: nothing may be killed for it.
        assert process.pid == pid
        await process.cancel(running)
        with pytest.raises(TaskCanceled):
            await ends(running)
        assert await ends(await process.start("interactive", do("next"))) == Done()
        assert process.pid == pid


@pytest.mark.parametrize("grace", [0.05, 60])
async def test_a_load_that_is_canceled_loses_its_worker_at_once_and_the_next_task_gets_another(
    grace: float,
) -> None:
    async with worker(grace=grace) as process:
        run = await process.start("interactive", LOAD)
        await begun(run)
        while not process._loading:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        pid = process.pid
        await process.cancel(run)
        with pytest.raises(TaskCanceled):
            await ends(run)
        assert await ends(await process.start("interactive", do("next"))) == Done()
        assert process.pid != pid


async def test_a_deaf_task_is_ended_after_the_grace_and_those_that_waited_are_done_by_the_next_worker() -> (
    None
):
    async with worker(grace=0.05) as process:
        deaf = await process.start("interactive", do("deaf"))
        waiting = await process.start("interactive", do("next"))
        await heard_of(deaf)
        pid = process.pid
        await process.cancel(deaf)
        with pytest.raises(TaskCanceled):
            await ends(deaf)
        assert await ends(waiting) == Done()
        assert process.pid != pid


async def test_a_deaf_task_is_ended_in_time_though_another_has_begun_that_gets_no_turn() -> None:
    async with worker(grace=0.5) as process:
        suspended = await process.start("interactive", LOAD)
        waiting = await process.start("interactive", do("deaf"))
        await heard_of(waiting)
        assert suspended.begun
        await process.cancel(waiting)
        with pytest.raises(TaskCanceled):
            await ends(waiting)
        with pytest.raises(WorkerLost):
            await ends(suspended)


async def test_in_a_worker_of_both_lanes_a_canceled_load_does_not_end_the_job_around_it() -> None:
    async with worker("interactive", "jobs", grace=0.05) as process:
        job = await process.start("jobs", do("until canceled"))
        await begun(job)
        nested = await process.start("interactive", do("until canceled"))
        await begun(nested)
        await process.cancel(nested)
        with pytest.raises(TaskCanceled):
            await ends(nested)
        assert not job._outcome.done()
        await process.cancel(job)
        with pytest.raises(TaskCanceled):
            await ends(job)


@pytest.mark.parametrize(("name", "says"), [("die", "exit code 7"), ("garbage", "does not understand")])
async def test_a_worker_that_goes_wrong_says_how_and_the_next_task_gets_another(name: str, says: str) -> None:
    async with worker() as process:
        with pytest.raises(WorkerLost, match=says):
            await ends(await process.start("interactive", do(name)))
        assert await ends(await process.start("interactive", do("next"))) == Done()


async def test_a_mistake_in_a_task_is_told_with_its_stack_and_the_worker_goes_on() -> None:
    async with worker() as process:
        with pytest.raises(TaskFailure) as failure:
            await ends(await process.start("interactive", do("fail")))
        pid = process.pid
        assert await ends(await process.start("interactive", do("next"))) == Done()
        assert process.pid == pid
    assert failure.value.failed.code == "INTERNAL"
    assert "on purpose" in failure.value.failed.traceback
    assert "on purpose" not in failure.value.failed.reason


async def test_closing_ends_a_worker_that_is_only_starting_and_all_its_tasks() -> None:
    async with worker() as process:
        starting = asyncio.ensure_future(process.start("interactive", do("deaf")))
        await asyncio.sleep(0)
        await process.close(0)
        with pytest.raises(WorkerLost):
            await ends(await starting)
        with pytest.raises(WorkerLost):
            await process.start("interactive", do("next"))


async def test_a_worker_ends_with_the_process_that_started_it() -> None:
    async with worker() as process:
        run = await process.start("interactive", do("deaf"))
        await begun(run)
        pid = process.pid
        assert pid is not None
        assert process._writer is not None
        process._writer.transport.abort()  # As the system does with a dead process's sockets.
        with pytest.raises(WorkerLost):
            await ends(run)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_worker_that_gives_no_sign_of_life_is_ended_and_the_next_task_gets_another() -> None:
    async with worker(silence=3) as process:
        with pytest.raises(WorkerLost, match="no sign of life"):
            await ends(await process.start("interactive", do("freeze")))
        assert await ends(await process.start("interactive", do("next"))) == Done()


async def test_a_task_that_does_not_get_on_loses_its_worker_and_the_next_gets_another() -> None:
    # The steps of one that gets on are counted in test_watchdog.py, without a clock.
    async with worker(stall=3) as process:
        with pytest.raises(WorkerLost, match="did not get on"):
            await ends(await process.start("interactive", do("deaf")))
        assert await ends(await process.start("interactive", do("next"))) == Done()


async def test_closing_lets_a_task_stop_by_itself_first() -> None:
    async with worker(grace=0.05) as process:
        run = await process.start("interactive", do("until canceled"))
        await begun(run)
        await process.close(20)
        with pytest.raises(TaskCanceled):
            await ends(run)
        assert not run.cancel_requested


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_stop_is_for_the_server_alone(stop: signal.Signals) -> None:
    async with worker() as process:
        run = await process.start("interactive", do("until canceled"))
        await begun(run)
        assert process.pid is not None
        os.kill(process.pid, stop)
        await process.cancel(run)
        with pytest.raises(TaskCanceled):
            await ends(run)


async def test_a_worker_that_the_system_ended_for_want_of_memory_is_told_from_one_that_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kills = iter([5, 6, 6, 6])
    monkeypatch.setattr("gql_server.jobs.worker_process.kills_so_far", lambda: next(kills))
    async with worker() as process:
        with pytest.raises(WorkerOutOfMemory, match="no memory left"):
            await ends(await process.start("interactive", do("kill")))
        with pytest.raises(WorkerLost, match="was killed") as lost:
            await ends(await process.start("interactive", do("kill")))
    assert not isinstance(lost.value, WorkerOutOfMemory)


@pytest.mark.parametrize("turns", range(12))
async def test_who_gives_up_while_a_worker_starts_leaves_one_that_works(turns: int) -> None:
    async with worker() as process:
        starting = asyncio.ensure_future(process.start("interactive", do("first")))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert await ends(await process.start("interactive", do("next"))) == Done()


async def test_a_frozen_worker_does_not_keep_a_server_from_stopping() -> None:
    async with worker() as process:
        run = await process.start("interactive", do("freeze"))
        await begun(run)
        for _ in range(20):  # More than the socket takes; nobody reads at its other end.
            sending = asyncio.ensure_future(process.start("interactive", do("x" * 1_000_000)))
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await process.close(0.1)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_task_that_is_canceled_while_the_next_worker_starts_is_not_begun() -> None:
    async with worker(grace=0.05) as process:
        deaf = await process.start("interactive", do("deaf"))
        waiting = [await process.start("interactive", do(name)) for name in ("until canceled", "next")]
        await begun(deaf)
        await process.cancel(deaf)
        with pytest.raises(TaskCanceled):
            await ends(deaf)
        await process.cancel(waiting[0])
        with pytest.raises(TaskCanceled):
            await ends(waiting[0])
        assert await ends(waiting[1]) == Done()


async def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    async with worker() as process:
        run = await process.start("interactive", do("until canceled"))
        await begun(run)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGRTMIN + 3)
        with pytest.raises(WorkerLost, match=f"signal {signal.SIGRTMIN + 3}"):
            await ends(run)


async def test_starts_and_ends_of_the_process_are_counted_with_their_reasons() -> None:
    telemetry = Telemetry()
    async with worker(telemetry=telemetry) as process:
        with pytest.raises(WorkerLost):
            await ends(await process.start("interactive", do("die")))
        await ends(await process.start("interactive", do("as ever")))
        meanwhile = rendered(telemetry)
    afterwards = rendered(telemetry)
    assert meanwhile.value("gql_server_worker_starts_total", worker="interactive") == 2
    assert meanwhile.value("gql_server_worker_ends_total", worker="interactive", reason="crashed") == 1
    assert meanwhile.value("gql_server_workers_up", worker="interactive") == 1
    assert afterwards.value("gql_server_worker_ends_total", worker="interactive", reason="stopped") == 1
    assert afterwards.value("gql_server_workers_up", worker="interactive") == 0


async def test_what_libraries_print_becomes_log_lines_without_what_acts_on_a_terminal() -> None:
    with capture_logs() as logs:
        async with worker() as process:
            await ends(await process.start("interactive", do("print")))
    printed = [line["text"] for line in logs if line["event"] == "worker printed"]
    assert printed[:3] == ["what a library prints", "\ufffd[2J of a name", "50%"]
    assert [len(text) for text in printed[3:]] == [999], "a long line is shortened"


async def test_a_worker_that_ends_before_it_is_ready_is_begun_again_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(worker_process, "LONGEST_PAUSE_SECONDS", 0.005)
    async with worker() as process:
        process._module = "tests.jobs.no_such_module"
        pauses = []
        for _ in range(5):
            with pytest.raises(WorkerLost):
                await process.ready()
            pauses.append(process._pause)
        assert pauses == [0.001, 0.002, 0.004, 0.005, 0.005]
        process._module = "tests.jobs.scripted_worker"
        assert await process.ready()
        with pytest.raises(WorkerLost):
            await ends(await process.start("interactive", do("die")))
        assert process._pause == 0, "it was ready, so the next is begun at once"
