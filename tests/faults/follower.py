"""A client that follows one job through every end of its server, and must get each event exactly once."""

import asyncio
from typing import Any

from tests.faults.site import LOST, PAUSE_SECONDS, Site

EVENT = """__typename sequence
  ... on JobStatusChanged { status error }
  ... on JobLogged { message }
  ... on JobProgressed { progress { fraction completed total unit ratePerSecond etaSeconds } }
  ... on TrainingStepped { point { step loss mse explainedVariance l0 deadFraction } }"""
_PROGRESS = f"subscription($id: ID!, $after: Int!) {{ jobProgress(id: $id, after: $after) {{ {EVENT} }} }}"
_ENDS = {"SUCCEEDED", "FAILED", "CANCELED", "INTERRUPTED"}


class Follower:
    """Subscribes to a job again and again, each time after the last event that it has got."""

    def __init__(self, site: Site, job_id: str, news: asyncio.Condition) -> None:
        self.job_id = job_id
        self.events: list[dict[str, Any]] = []
        self.subscriptions = 0
        self._site = site
        self._news = news
        self._finishing = False
        self._following = asyncio.create_task(self._follow())

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """The changes of status so far."""
        return [event for event in self.events if event["__typename"] == "JobStatusChanged"]

    @property
    def status(self) -> str:
        """The newest status; QUEUED before any is known."""
        return str(self.statuses[-1]["status"]) if self.statuses else "QUEUED"

    @property
    def ended(self) -> bool:
        """Whether nothing more comes unless the job is retried."""
        return self.status in _ENDS

    @property
    def attempt(self) -> int:
        """How often the job has been queued."""
        return sum(event["status"] == "QUEUED" for event in self.statuses)

    @property
    def fraction(self) -> float | None:
        """How far this attempt is; None before its first progress."""
        for event in reversed(self.events):
            if event["__typename"] == "JobStatusChanged":
                return None
            if event["__typename"] == "JobProgressed":
                return float(event["progress"]["fraction"])
        return None

    async def finish(self) -> None:
        """Get what is still missing of a job that has ended for good, and stop."""
        self._finishing = True
        await self._following

    async def _follow(self) -> None:
        finishing = False
        while not finishing:
            finishing = self._finishing
            try:
                async with self._site.client() as client:
                    self.subscriptions += 1
                    after = self.events[-1]["sequence"] if self.events else 0
                    async for data in client.listen(_PROGRESS, id=self.job_id, after=after):
                        await self._take(data["jobProgress"])
            except LOST:
                finishing = False
            await asyncio.sleep(PAUSE_SECONDS)

    async def _take(self, event: dict[str, Any]) -> None:
        async with self._news:
            self.events.append(event)
            self._news.notify_all()
