"""Fan-out of the events of watched jobs: they are read once for all who watch them."""

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
    """A watched job as it was last read, with its newest events in a ring; watchers keep only a number."""

    def __init__(self) -> None:
        self.job: Job | None = None
        """None until it has been read, or where there is no such job."""
        self.failure: Exception | None = None
        """Why it is not read any more."""
        self.watchers = 0
        self.notifier = Notifier()
        """Notified when there is something new."""
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
    """The feeds of all watched jobs. One task reads them, from the first watcher until the last has left."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier
        self._feeds: dict[str, JobFeed] = {}
        self._reader: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._begun = 0
        self._done = 0
        """The number of the last read that was finished, where ``_begun`` counts them all."""

    def job(self, id: str) -> Job | None:
        """Return a job that is watched as it was last read."""
        feed = self._feeds.get(id)
        return feed.job if feed else None

    def snapshot_key(self, id: str, sequence: int) -> tuple[str, int, int, int] | None:
        """Return the cache key of the snapshot that a watcher of an event sees; None for the only watcher.

        Equal keys mean the same state of the job and of the whole database.
        """
        feed = self._feeds.get(id)
        if feed is None or feed.job is None or feed.watchers < 2:
            return None
        return id, sequence, feed.job.revision, self._database.commits

    async def follow(self, job_id: str, after: int) -> AsyncIterator[JobEvent]:
        """Give a job's events above a sequence number, the past first, until it has ended and all are given.

        Raises:
            NotFound: There is no such job.
            Conflict: Retention has removed events above ``after``.
            NotReadable: The database could not be read.
        """
        async with self._joined(job_id) as feed:
            while True:
                seen, job = feed.notifier.count, _job_of(feed, job_id)
                event_log.check_kept(job, after)
                if after < feed.start:
                    for event in await self._page(job_id, after, feed.start):
                        after = event.sequence
                        yield event
                elif (newer := feed.next(after)) is not None:
                    after = newer.sequence
                    yield newer
                elif job.status.ended:
                    # Ending a subscription takes longer than an event; first all shall have the last event.
                    await asyncio.sleep(0)
                    return
                else:
                    await feed.notifier.wait(seen)

    @asynccontextmanager
    async def _joined(self, job_id: str) -> AsyncIterator[JobFeed]:
        """Give a job's feed, read since this was called: who has just retried it must not see its old end."""
        feed = self._feeds.setdefault(job_id, JobFeed())
        feed.watchers += 1
        if self._reader is None:
            # It reads for all who watch: not under the first one's reference.
            self._reader = asyncio.create_task(self._keep_reading(self._notifier.count), context=Context())
        try:
            await self._read()
            yield feed
        finally:
            feed.watchers -= 1
            if not feed.watchers and self._feeds.get(job_id) is feed:
                del self._feeds[job_id]
            if not self._feeds:
                await self._stop_reading()

    async def _keep_reading(self, seen: int) -> None:
        """Read after each notification since the one numbered ``seen``."""
        while True:
            await self._notifier.wait(seen, LOOK_AGAIN_SECONDS)
            seen = self._notifier.count
            try:
                await self._read()
            except Exception as error:
                logger.exception("watched jobs could not be read")
                if self._reader is not asyncio.current_task():
                    return  # Stopped while it read; another one reads by now.
                feeds, self._feeds, self._reader = self._feeds, {}, None
                for feed in feeds.values():
                    feed.fail(error)
                return

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        """Bring all feeds up to date, unless a read that begins after this call does so meanwhile."""
        begun_before = self._begun
        async with self._reading:
            if self._done > begun_before:
                return
            self._begun += 1
            feeds = dict(self._feeds)
            async with self._database.read() as session:
                for job in await session.scalars(select(Job).where(Job.id.in_(feeds))):
                    feed = feeds[job.id]
                    after = max(feed.last, job.last_sequence - FEED_EVENTS)
                    newer = after < job.last_sequence
                    feed.update(
                        job, await event_log.read(session, job.id, after, FEED_EVENTS) if newer else []
                    )
            self._done = self._begun

    async def _page(self, job_id: str, after: int, before_feed: int) -> list[JobEvent]:
        """Return the next events that the feed no longer holds; it gives the rest itself."""
        limit = min(EVENTS_AT_ONCE, before_feed - after)
        async with self._database.read() as session:
            event_log.check_kept(await session.get_one(Job, job_id), after)
            return await event_log.read(session, job_id, after, limit)


def _job_of(feed: JobFeed, id: str) -> Job:
    if feed.failure is not None:
        raise NotReadable(f"the job {id} could not be read") from feed.failure
    if feed.job is None:
        raise NotFound("job", id)
    return feed.job
