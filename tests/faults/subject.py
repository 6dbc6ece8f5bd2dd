"""A job under fire: followed, retried whenever it has ended too early, and seen to its end."""

import asyncio
from collections.abc import Callable

from tests.faults.follower import Follower
from tests.faults.orders import Order
from tests.faults.site import Site
from tests.faults.tally import Tally

_RETRIED = "... on JobLaunched { job { id } }"
_JOB = "query($id: ID!) { job(id: $id) { status lastSequence } }"
_BY_THE_SERVERS_END = "The server "
"""How the errors begin where it was not a lost worker that interrupted a job."""
LAST_PART = 0.93
"""From which fraction on a job is at its end."""
LOSSES_FORGIVEN = 3
"""Lost workers after which a server that resumes jobs by itself asks for a person."""


class Subject:
    """One job. ``resumes`` says whether its servers take it up again by themselves."""

    def __init__(
        self,
        site: Site,
        order: Order,
        ids: tuple[str, str],
        news: asyncio.Condition,
        tally: Tally,
        *,
        resumes: bool,
        strikes: int,
    ) -> None:
        self.order = order
        self.job_id, self.result_id = ids
        self.follower = Follower(site, self.job_id, news)
        self.strikes_left = strikes
        self.abandoned = False
        """Whether it may stay CANCELED."""
        self.over = False
        self._site, self._news, self._tally = site, news, tally
        self._resumes = resumes
        self._first_status = 0
        self._keeping = asyncio.create_task(self._keep())

    @property
    def state(self) -> str:
        """What it is at, roughly."""
        if self.follower.status == "QUEUED":
            return "while queued"
        if self.follower.fraction is None:
            return "before its first progress"
        return "at its end" if self.follower.fraction >= LAST_PART else "at work"

    async def end(self) -> str:
        """Wait for its last end; returns the status."""
        await self._keeping
        return self.follower.status

    async def _keep(self) -> None:
        while True:
            await self._until(lambda: self.follower.ended)
            status = self.follower.status
            if status in ("SUCCEEDED", "FAILED") or (status == "CANCELED" and self.abandoned):
                break
            await self._retry()
        await self.follower.finish()
        self.over = True
        async with self._news:
            self._news.notify_all()

    async def _retry(self) -> None:
        """Queue it again, unless the server has done that itself."""
        attempt = self.follower.attempt
        job = (await self._site.ask(_JOB, id=self.job_id))["job"]
        if job["status"] in ("INTERRUPTED", "CANCELED"):
            await self._until(lambda: self.follower.events[-1]["sequence"] >= job["lastSequence"])
            self._check_resumption()
            self._first_status = len(self.follower.statuses)
            # Refused where a server has ended between an earlier try and its answer: it is queued then.
            answer = await self._site.do("retryJob", _RETRIED, id=("ID!", self.job_id))
            self._tally.others["jobs retried by a client"] += answer["__typename"] == "JobLaunched"
        await self._until(lambda: self.follower.attempt > attempt)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with self._news:
            await self._news.wait_for(reached)

    def _check_resumption(self) -> None:
        if not self._resumes or self.follower.status != "INTERRUPTED":
            return
        errors = [change["error"] for change in self.follower.statuses[self._first_status :]]
        losses = [error for error in errors if error and not error.startswith(_BY_THE_SERVERS_END)]
        what = f"{self.job_id} was left INTERRUPTED after {len(losses)} lost workers"
        check = self._tally.check("the server took up again what it should")
        check.that(len(losses) > LOSSES_FORGIVEN, what)
