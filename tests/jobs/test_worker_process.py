"""A real process at the other end of the socket, without torch in it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gql_server.compute.messages import (
    Done,
    Lane,
    LanguageModelSource,
    LoadLanguageModel,
    Log,
    UnloadLanguageModel,
)
from gql_server.jobs.executor import TaskCanceled, TaskFailure, TaskRun, WorkerLost
from gql_server.jobs.worker_process import WorkerProcess

LOAD = LoadLanguageModel(LanguageModelSource("lm", "DIRECTORY", "/nowhere", None, "FLOAT32", "/nowhere"))


@asynccontextmanager
async def worker(*lanes: Lane, grace: float = 60) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(
        lanes or ("interactive",),
        [],
        grace,
        lambda _: None,
        lambda: None,
        module="tests.jobs.scripted_worker",
    )
    try:
        yield process
    finally:
        await process.close()


async def ends(run: TaskRun) -> Any:
    async with asyncio.timeout(20):
        return await run.result()


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
        pid = process.pid
        await process.cancel(run)
        with pytest.raises(TaskCanceled):
            await ends(run)
        assert await ends(await process.start("interactive", do("next"))) == Done()
        assert process.pid != pid


async def test_a_deaf_task_is_ended_after_the_grace_and_others_in_the_worker_are_told_why() -> None:
    async with worker(grace=0.05) as process:
        deaf = await process.start("interactive", do("deaf"))
        waiting = await process.start("interactive", do("next"))
        await begun(deaf)
        await process.cancel(deaf)
        with pytest.raises(TaskCanceled):
            await ends(deaf)
        with pytest.raises(WorkerLost, match="canceled task in it did not stop"):
            await ends(waiting)


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
        await process.close()
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
