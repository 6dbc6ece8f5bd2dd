"""Takes jobs from the queue, has them done, and writes down everything that happens to them."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import select
from structlog.contextvars import bound_contextvars

from gql_server.artifacts.disk import problem_of
from gql_server.database.database import Database
from gql_server.jobs import event_log, progress, queue, transitions
from gql_server.jobs.downloads import Downloads
from gql_server.jobs.executor import (
    Executor,
    TaskCanceled,
    TaskEnded,
    TaskFailure,
    TaskRun,
    WorkerLost,
    WorkerOutOfMemory,
)
from gql_server.jobs.handler import Handler
from gql_server.jobs.job_logging import EndedJob, log_job_started, subject
from gql_server.jobs.notifier import LOOK_AGAIN_SECONDS, Notifier
from gql_server.protocol.events import Event, Log, Progress, Stage
from gql_server.protocol.results import Result
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import Lane
from gql_server.settings import Settings
from gql_server.telemetry.telemetry import Telemetry
from gql_server.telemetry.tracing import prefixed
from models import Job
from models.base import now
from models.enums import JobEventType, JobKind, JobStatus

logger = structlog.get_logger(__name__)

LANES: tuple[Lane, ...] = ("jobs", "interactive")
STOPPED = "The server was stopped while the job ran; retry it with retryJob."
STOP_GRACE_SECONDS = 1.5
"""How long a task has to stop by itself, and to save what it has, when the server stops."""
PAUSE_AFTER_ERROR_SECONDS = 1.0
MAX_BESIDE = 32
"""Jobs that wait for the Hub beside their lanes."""
WAITING = "waiting for other jobs"
INTERNAL_FAILURE = "The job failed because of a mistake in the server; its log says more."


@dataclass(eq=False)
class _Slot:
    """A place in a lane, for one job at a time."""

    lane: Lane
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    unwritten: tuple[str, str] | None = None
    """A job whose failure could not be written down yet, and the failure."""


class Supervisor:
    """A loop for each slot of a lane, with one job at a time; beside them jobs that wait for the Hub."""

    def __init__(
        self,
        database: Database,
        executor: Executor,
        handlers: Mapping[JobKind, Handler],
        notifier: Notifier,
        settings: Settings,
        telemetry: Telemetry,
        downloads: Downloads,
    ) -> None:
        self._database = database
        self._executor = executor
        self._handlers = handlers
        self._notifier = notifier
        self._telemetry = telemetry
        self._progress_interval = settings.progress_interval_seconds
        self._resumes = settings.resume_jobs
        slots: dict[Lane, int] = {"jobs": settings.job_workers, "interactive": 1}
        self._slots = [_Slot(lane) for lane in LANES for _ in range(slots[lane])]
        self._downloads = downloads
        self._getting_ready: dict[str, asyncio.Future[None]] = {}
        """What jobs wait for before their tasks can begin, by the job's ID."""
        self._turns = {lane: asyncio.Semaphore(slots[lane]) for lane in LANES}
        self._beside: set[asyncio.Task[None]] = set()
        """Jobs that are not done by a slot's loop."""
        self._runs: dict[TaskRun, str] = {}
        """The tasks of jobs that are being done, and the jobs' IDs."""
        self._began: dict[str, float] = {}
        """When running attempts began, on the monotonic clock."""
        self._loops: dict[_Slot, asyncio.Task[None]] = {}
        self._looking_for_cancels: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to take jobs."""
        self._loops = {slot: asyncio.create_task(self._serve(slot)) for slot in self._slots}
        self._looking_for_cancels = asyncio.create_task(self._look_for_cancels())

    async def close(self) -> None:
        """Stop taking jobs and end the workers; what ran is written down as INTERRUPTED."""
        self._closing = True
        if self._looking_for_cancels is not None:
            self._looking_for_cancels.cancel()
        for slot in self._slots:
            slot.wake.set()
        for getting in self._getting_ready.values():
            getting.cancel()
        await self._executor.close(STOP_GRACE_SECONDS)
        outcomes = await asyncio.gather(*self._loops.values(), return_exceptions=True)
        # Only now: a loop may have begun one meanwhile.
        outcomes += await asyncio.gather(*self._beside, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                logger.error("lane ended badly", exc_info=outcome)

    @property
    def runs(self) -> Mapping[TaskRun, str]:
        """The tasks of jobs that are being done, and the jobs' IDs."""
        return self._runs

    def lanes_running(self) -> dict[Lane, bool]:
        """Return of each lane whether all its slots take jobs."""
        return {
            lane: not self._closing
            and not any(loop.done() for slot, loop in self._loops.items() if slot.lane == lane)
            for lane in LANES
        }

    def wake(self) -> None:
        """Look at the queue again: call it after a commit that added a job."""
        for slot in self._slots:
            slot.wake.set()
        self._notifier.notify()

    async def cancel(self, job_id: str) -> None:
        """Stop the task of a job that is CANCELING, where it is done here."""
        self._notifier.notify()
        await self._stop(job_id)

    async def _look_for_cancels(self) -> None:
        """Stop tasks here whose jobs another process has asked to stop."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            here = {*self._getting_ready, *(id for run, id in self._runs.items() if not run.cancel_requested)}
            if not here:
                continue
            try:
                async with self._database.read() as session:
                    asked = select(Job.id).where(Job.status == JobStatus.CANCELING)
                    found = here.intersection(await session.scalars(asked))
                for job_id in found:
                    await self._stop(job_id)
            except Exception:
                # Such as a database that stands still for a while: the next look finds them, too.
                logger.exception("no look for canceled jobs")

    async def _stop(self, job_id: str) -> None:
        getting = self._getting_ready.get(job_id)
        if getting is not None:
            getting.cancel()
            return
        for run in [run for run, id in self._runs.items() if id == job_id and not run.cancel_requested]:
            await self._executor.cancel(run)

    async def _serve(self, slot: _Slot) -> None:
        """Do a lane's jobs, whatever goes wrong with one of them."""
        while True:
            slot.wake.clear()
            try:
                await self._have_few_beside()
                async with self._turns[slot.lane]:
                    job_id = None if self._closing else await self._next(slot)
                    if job_id is not None:
                        await self._run_or_fail(job_id, slot)
                if self._closing:
                    return
                if job_id is None:
                    await self._woken(slot)
            except Exception:
                # Such as a full disk under the database: the job stays as it is until that can be written.
                logger.exception("lane stumbled", lane=slot.lane)
                await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)

    async def _have_few_beside(self) -> None:
        """Wait while as many jobs as may be wait for the Hub."""
        while len(self._beside) >= MAX_BESIDE and not self._closing:
            await asyncio.wait(self._beside, timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    async def _woken(self, slot: _Slot) -> None:
        """Return when there may be something to do: at a wake-up, and once a second besides."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                await slot.wake.wait()

    async def _next(self, slot: _Slot) -> str | None:
        """Return the job to do: first one whose failure could not be written down, then the queue's."""
        if slot.unwritten is not None:
            return slot.unwritten[0]
        async with self._database.read() as session:
            job = await queue.next_of(session, slot.lane)
        return job.id if job else None

    async def _run_or_fail(self, job_id: str, slot: _Slot) -> None:
        with bound_contextvars(job=job_id):
            if slot.unwritten is None:
                try:
                    await self._run(job_id, slot.lane)
                    return
                except Exception as error:
                    logger.exception("job could not be run")
                    slot.unwritten = (job_id, problem_of(error) or INTERNAL_FAILURE)
            await self._end(job_id, JobStatus.FAILED, slot.unwritten[1])
            slot.unwritten = None

    async def _run(self, job_id: str, lane: Lane) -> None:
        async with self._database.write() as session:
            job = await queue.next_of(session, lane)
            if job is None or job.id != job_id:
                return  # Canceled since it was read, or begun by another slot.
            task = await self._handlers[job.kind].begin(session, job)
            job.started_at, self._began[job_id] = now(), time.monotonic()
            await event_log.append_status(session, job, JobStatus.RUNNING)
        self._notifier.notify()
        downloads = await self._downloads.missing(task)
        if not downloads:
            await self._carry_out(job, lane, task)
            return
        work = asyncio.create_task(self._carry_out_beside(job, lane, task, downloads))
        self._beside.add(work)
        work.add_done_callback(self._beside.discard)

    async def _carry_out_beside(self, job: Job, lane: Lane, task: Task, downloads: list[Task]) -> None:
        """Have a job done that needs downloads first, while its lane goes on with others."""
        try:
            await self._carry_out(job, lane, task, downloads)
        except Exception as error:
            logger.exception("job could not be run")
            problem = problem_of(error) or INTERNAL_FAILURE
            await self._fail(job.id, problem)

    async def _fail(self, job_id: str, problem: str) -> None:
        """Write down that a job has failed, as soon as that can be."""
        while not self._closing:
            try:
                await self._end(job_id, JobStatus.FAILED, problem)
                return
            except Exception:
                # Such as a full disk under the database: the job stays as it is until that can be written.
                logger.exception("the end of a job could not be written down")
                await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)

    async def _carry_out(self, job: Job, lane: Lane, task: Task, downloads: Sequence[Task] = ()) -> None:
        with self._telemetry.tracer.span(f"job {job.kind}", prefixed(subject(job)), cause=job.id) as span:
            log_job_started(job)
            try:
                if downloads:
                    await self._get_ready(job.id, lane, downloads)
            except TaskEnded as ended:
                status = await self._end(job.id, *self._how(ended))
            else:
                try:
                    status = await self._do(job.id, lane, task)
                finally:
                    if downloads:
                        self._turns[lane].release()
            span.conclude(status)

    async def _do(self, job_id: str, lane: Lane, task: Task) -> JobStatus:
        """Have a task done, write down what happens, and return how the job has ended."""
        try:
            for step in task.steps():
                await self._run_in_parallel(job_id, lane, step)
            return await self._succeed(job_id, await self._run_task(job_id, lane, task, progress.unchanged))
        except TaskEnded as ended:
            return await self._end(job_id, *self._how(ended))

    async def _run_task(
        self, job_id: str, lane: Lane, task: Task, transform: Callable[[Event], Event]
    ) -> Result:
        """Run one of a job's tasks; ``transform`` is applied to its events before they are written.

        Raises:
            TaskEnded: It has ended without a result.
        """
        run = await self._executor.start(lane, task)
        self._runs[run] = job_id
        try:
            await self._cancel_if_asked_meanwhile(job_id, run)
            await self._follow_or_cancel(job_id, run, transform)
            return await run.result()
        finally:
            del self._runs[run]

    async def _run_in_parallel(self, job_id: str, lane: Lane, tasks: Sequence[Task]) -> None:
        """Run tasks in parallel: one in the job's own turn, more in turns that are free.

        Raises:
            TaskEnded: One has ended without a result; the others have been stopped.
        """
        combined, turns = progress.CombinedProgress(), self._turns[lane]
        waiting = deque((task, combined.of_part(part)) for part, task in enumerate(tasks))
        running: dict[asyncio.Task[Result], bool] = {}
        """Whether each has an extra turn, beside the job's own."""
        try:
            while waiting or running:
                while waiting and (all(running.values()) or not turns.locked()):
                    is_extra = not all(running.values())
                    if is_extra:
                        await turns.acquire()
                    running[asyncio.create_task(self._run_task(job_id, lane, *waiting.popleft()))] = is_extra
                done, _ = await asyncio.wait(
                    running, timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for one in done:
                    if running.pop(one):
                        turns.release()
                    await one
        finally:
            while running:
                # Again and again: one may just be handed to a worker.
                await self._stop(job_id)
                done, _ = await asyncio.wait(running, timeout=LOOK_AGAIN_SECONDS)
                for one in done:
                    one.exception()  # Retrieved: the first one's is raised.
                    if running.pop(one):
                        turns.release()

    async def _get_ready(self, job_id: str, lane: Lane, downloads: Sequence[Task]) -> None:
        """Have downloads done, and wait for the job's turn in its lane, which it has afterwards.

        Raises:
            TaskEnded: A download has not come to its end, or the job was canceled meanwhile.
        """
        getting = asyncio.ensure_future(self._download(job_id, lane, downloads))
        self._getting_ready[job_id] = getting
        try:
            if self._closing or await self._is_canceling(job_id):
                getting.cancel()
            await getting
        except asyncio.CancelledError:
            raise TaskCanceled from None
        except BaseException:
            getting.cancel()
            await asyncio.wait([getting])
            if not getting.cancelled() and getting.exception() is None:
                self._turns[lane].release()
            raise
        finally:
            del self._getting_ready[job_id]

    async def _download(self, job_id: str, lane: Lane, downloads: Sequence[Task]) -> None:
        """Do that; what is canceled breaks off no write to the database."""
        await self._downloads.get(downloads, partial(self._follow, job_id))
        if self._turns[lane].locked():
            await _to_its_end(self._record(job_id, [Stage(WAITING, 0, None)]))
        await self._turns[lane].acquire()

    async def _follow_or_cancel(self, job_id: str, run: TaskRun, transform: Callable[[Event], Event]) -> None:
        try:
            await self._follow(job_id, run, transform)
        except Exception:
            # Nobody listens to the task any more: it must not go on in the worker.
            await self._executor.cancel(run)
            raise

    async def _cancel_if_asked_meanwhile(self, job_id: str, run: TaskRun) -> None:
        if await self._is_canceling(job_id):
            await self._executor.cancel(run)

    async def _is_canceling(self, job_id: str) -> bool:
        async with self._database.read() as session:
            return (await session.get_one(Job, job_id)).status == JobStatus.CANCELING

    async def _follow(
        self, job_id: str, run: TaskRun, transform: Callable[[Event], Event] = progress.unchanged
    ) -> None:
        """Write down what the task tells; of progress the newest, no more often than the interval."""
        held: list[Event] = []
        written = -math.inf
        async for batch in run.batches():
            events = [transform(event) for event in batch]
            kept: list[Event] = [event for event in events if not isinstance(event, Progress | Stage)]
            held = progress.newest([*held, *events])
            # Not the time of day, which may be set back.
            if held and time.monotonic() - written >= self._progress_interval:
                kept += held
                held, written = [], time.monotonic()
            if kept:
                await _to_its_end(self._record(job_id, kept))
        if held:
            await _to_its_end(self._record(job_id, held))

    async def _record(self, job_id: str, events: list[Event]) -> None:
        async with self._database.write() as session:
            job = await session.get_one(Job, job_id)
            handler = self._handlers[job.kind]
            for event in events:
                match event:
                    case Progress() | Stage():
                        progress.take_in(job, event)
                        await event_log.append(session, job, JobEventType.PROGRESS, progress.payload(job))
                    case Log(message):
                        logger.info("job log", message=message)
                        await event_log.append(session, job, JobEventType.LOG, {"message": message})
                    case _ if isinstance(event, handler.events):
                        await handler.record(session, job, event)
                    case _:
                        what = f"{type(event).__name__} is none of the events of {type(handler).__name__}"
                        raise TypeError(f"{what}; add it there, and to record.")
        self._notifier.notify()

    def _how(self, ended: TaskEnded) -> tuple[JobStatus, str | None]:
        """Return what a task's end makes of its job; of one that was to be canceled, ``_end`` says it."""
        match ended:
            case TaskCanceled():
                return (JobStatus.INTERRUPTED, STOPPED) if self._closing else (JobStatus.CANCELED, None)
            case WorkerOutOfMemory():
                return JobStatus.FAILED, str(ended)
            case WorkerLost():
                return JobStatus.INTERRUPTED, STOPPED if self._closing else str(ended)
            case TaskFailure(failed=failed):
                if failed.code == "INTERNAL":
                    logger.error("task failed", traceback=failed.traceback)
                return JobStatus.FAILED, failed.reason
            case _:
                raise TypeError(f"unknown end of a task: {ended!r}")

    async def _succeed(self, job_id: str, result: Result) -> JobStatus:
        async with self._database.write() as session:
            job = await session.get_one(Job, job_id)
            job.finished_at = self._finished_at(job)
            await self._handlers[job.kind].succeed(session, job, result)
            progress.complete(job)
            await event_log.append(session, job, JobEventType.PROGRESS, progress.payload(job))
            await event_log.append_status(session, job, JobStatus.SUCCEEDED)
        EndedJob.of(job).log(self._telemetry)
        self.wake()
        return JobStatus.SUCCEEDED

    def _finished_at(self, job: Job) -> datetime:
        """Return when an attempt that ends now has ended: so long after its start as it has taken.

        The time of day may have been set back meanwhile.
        """
        began = self._began.pop(job.id, None)
        if began is None or job.started_at is None:
            return transitions.not_before_start(job)
        return job.started_at + timedelta(seconds=time.monotonic() - began)

    async def _end(self, job_id: str, status: JobStatus, error: str | None) -> JobStatus:
        async with self._database.write() as session:
            job = await session.get_one(Job, job_id)
            if job.status.ended:
                return job.status
            if job.status == JobStatus.CANCELING and status == JobStatus.INTERRUPTED:
                status, error = JobStatus.CANCELED, None  # Asked for in the moment in which its worker went.
            finished = self._finished_at(job)
            await transitions.finish(session, self._handlers[job.kind], job, status, error, finished)
            end = EndedJob.of(job)
            if self._resumes and status == JobStatus.INTERRUPTED:
                await transitions.resume_automatically(
                    session, self._handlers[job.kind], job, stopping=self._closing
                )
        end.log(self._telemetry)
        self.wake()
        return status


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await what must not be broken off, such as a write: a cancellation waits until it has been done."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
