"""What is newest of the jobs that somebody watches, read once for all who watch them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context

import structlog
from sqlalchemy import select

from gql_server.database.database import Database
from gql_server.errors import NotFound
from gql_server.jobs import event_log
from gql_server.jobs.notifier import LOOK_AGAIN_SECONDS, Notifier
from models import Job, JobEvent

logger = structlog.get_logger(__name__)

FEED_EVENTS = 256
EVENTS_AT_ONCE = 100


class NotReadable(Exception):
    """The database could not be read while a job was watched; the cause says why."""


class JobFeed:
    """A watched job as it was last read, with its newest events; those who watch it keep only a number."""

    def __init__(self) -> None:
        self.job: Job | None = None
        """None until it has been read, or where there is no such job."""
        self.failure: Exception | None = None
        """Why it is not read any more."""
        self.watchers = 0
        self.notifier = Notifier()
        """Rung when there is something new."""
        self._events: deque[JobEvent] = deque(maxlen=FEED_EVENTS)

    @property
    def last(self) -> int:
        """The number of the newest event that has been read."""
        return self.job.last_sequence if self.job else 0

    @property
    def start(self) -> int:
        """The number before the oldest event that is held."""
        return self.last - len(self._events)

    def next(self, after: int) -> JobEvent | None:
        """Return the event after a number that is ``start`` or above, if it has been read."""
        return self._events[after - self.start] if after < self.last else None

    def update(self, job: Job, events: list[JobEvent]) -> None:
        """Take in the job and its newest events, read at once: all since the last time, or as many as fit."""
        changed = self.job is None or (self.job.status, self.last) != (job.status, job.last_sequence)
        self.job = job
        self._events.extend(events)
        if changed:
            self.notifier.notify()

    def fail(self, failure: Exception) -> None:
        """Tell everybody who watches that nothing more will come."""
        self.failure = failure
        self.notifier.notify()


class JobEventHub:
    """The tails of all watched jobs. One task reads them, from the first watcher until the last has left."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier
        self._tails: dict[str, JobFeed] = {}
        self._reader: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._begun = 0
        self._done = 0
        """The number of the last read that was finished, where ``_begun`` counts them all."""

    def job(self, id: str) -> Job | None:
        """Return a job that is watched as it was last read."""
        tail = self._tails.get(id)
        return tail.job if tail else None

    def moment(self, id: str, sequence: int) -> tuple[str, int, int, int] | None:
        """Name an event of a job together with the state of the database; None where one alone watches it.

        Whoever is at the same moment finds the same, in this job and everywhere.
        """
        tail = self._tails.get(id)
        if tail is None or tail.job is None or tail.watchers < 2:
            return None
        return id, sequence, tail.job.revision, self._database.commits

    async def follow(self, job_id: str, after: int) -> AsyncIterator[JobEvent]:
        """Give a job's events above a sequence number, the past first, until it has ended and all are given.

        Raises:
            NotFound: There is no such job.
            Conflict: Retention has removed events above ``after``.
            NotReadable: The database could not be read.
        """
        async with self._joined(job_id) as tail:
            while True:
                seen, job = tail.notifier.count, _job_of(tail, job_id)
                event_log.check_kept(job, after)
                if after < tail.start:
                    for event in await self._page(job_id, after, tail.start):
                        after = event.sequence
                        yield event
                elif (newer := tail.next(after)) is not None:
                    after = newer.sequence
                    yield newer
                elif job.status.ended:
                    # Ending a subscription takes longer than an event; first all shall have the last event.
                    await asyncio.sleep(0)
                    return
                else:
                    await tail.notifier.wait(seen)

    @asynccontextmanager
    async def _joined(self, job_id: str) -> AsyncIterator[JobFeed]:
        """Give a job's tail, read since this was called: who has just retried it must not see its old end."""
        tail = self._tails.setdefault(job_id, JobFeed())
        tail.watchers += 1
        if self._reader is None:
            # It reads for all who watch: not under the first one's reference.
            self._reader = asyncio.create_task(self._keep_reading(self._notifier.count), context=Context())
        try:
            await self._read()
            yield tail
        finally:
            tail.watchers -= 1
            if not tail.watchers and self._tails.get(job_id) is tail:
                del self._tails[job_id]
            if not self._tails:
                await self._stop_reading()

    async def _keep_reading(self, seen: int) -> None:
        """Read whenever the notifier has rung since it had rung ``seen`` times."""
        while True:
            await self._notifier.wait(seen, LOOK_AGAIN_SECONDS)
            seen = self._notifier.count
            try:
                await self._read()
            except Exception as error:
                logger.exception("watched jobs could not be read")
                if self._reader is not asyncio.current_task():
                    return  # Stopped while it read; another one reads by now.
                tails, self._tails, self._reader = self._tails, {}, None
                for tail in tails.values():
                    tail.fail(error)
                return

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        """Bring all tails up to date, unless a read that begins after this call does so meanwhile."""
        begun_before = self._begun
        async with self._reading:
            if self._done > begun_before:
                return
            self._begun += 1
            tails = dict(self._tails)
            async with self._database.read() as session:
                for job in await session.scalars(select(Job).where(Job.id.in_(tails))):
                    tail = tails[job.id]
                    after = max(tail.last, job.last_sequence - FEED_EVENTS)
                    newer = after < job.last_sequence
                    tail.update(
                        job, await event_log.read(session, job.id, after, FEED_EVENTS) if newer else []
                    )
            self._done = self._begun

    async def _page(self, job_id: str, after: int, before_tail: int) -> list[JobEvent]:
        """Return the next events that the tail no longer holds; it gives the rest itself."""
        limit = min(EVENTS_AT_ONCE, before_tail - after)
        async with self._database.read() as session:
            event_log.check_kept(await session.get_one(Job, job_id), after)
            return await event_log.read(session, job_id, after, limit)


def _job_of(tail: JobFeed, id: str) -> Job:
    if tail.failure is not None:
        raise NotReadable(f"the job {id} could not be read") from tail.failure
    if tail.job is None:
        raise NotFound("job", id)
    return tail.job
