"""Launches work and strikes at it, at random, until enough processes have been killed."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.moments import PATIENCE_SECONDS, wait_for_moment
from tests.faults.orders import CAPTURE, INDEX, KINDS, TRAINING, Order, launch
from tests.faults.processes import Target
from tests.faults.reference import Reference
from tests.faults.site import Site
from tests.faults.subject import Subject
from tests.faults.tally import Tally

_INDEX_JOBS = """query { jobs(first: 100, kind: [INDEX_NEURONS]) {
  nodes { id result { ... on Node { id } } } } }"""
_CANCELED = "... on JobCancelRequested { job { id } }"
_DELETED = "... on Deleted { deletedId }"
_TARGETS = {Target.JOB_WORKER: 11, Target.SERVER: 7, Target.INTERACTIVE_WORKER: 2}
SHARES = {CAPTURE: 0.38, TRAINING: 0.4, INDEX: 0.22}
"""Of the kills."""
REQUEST_SECONDS = 0.2
"""About as long as a request takes that a server is killed in."""


@dataclass
class Rounds:
    """The work under fire, and what has become of it."""

    site: Site
    reference: Reference
    language_model_id: str
    tally: Tally
    dice: random.Random
    most_strikes: dict[str, int] = field(default_factory=lambda: {CAPTURE: 6, TRAINING: 7, INDEX: 4})
    """At one job of each kind."""
    resumes: bool = False
    subjects: list[Subject] = field(default_factory=list)
    runs: dict[str, list[str]] = field(default_factory=dict)
    """READY ones by the name of their input; the first of each is kept."""
    saes: dict[str, list[str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _at_work: list[Subject] = field(default_factory=list)

    async def go_on(self, kills: int, deadline: float) -> None:
        """Strike until ``kills`` have been killed in all or time is up; see all jobs to their end."""
        loop = asyncio.get_running_loop()
        while self.tally.kills.total() < kills and loop.time() < deadline:
            if len(self._at_work) < self.dice.choice([1, 1, 2]):
                await self._launch()
            if any(subject.strikes_left for subject in self._at_work):
                await self._strike()
            else:
                await self._see_to_the_end(self._at_work[0])
            for subject in [subject for subject in self._at_work if subject.over]:
                await self._conclude(subject)
        while self._at_work:
            await self._see_to_the_end(self._at_work[0])
            await self._conclude(self._at_work[0])

    async def stop_and_start(self, **settings: str) -> None:
        """Go on with other settings, when no job is under way."""
        await self.site.stop()
        self.resumes = settings.get("RESUME_JOBS", str(self.resumes)) == "true"
        await self.site.start(**settings)

    # ------------------------------------------------------------------------------------ striking

    async def _strike(self) -> None:
        if not await wait_for_moment(self._at_work, self.news, self.dice, self.reference.seconds):
            return
        subject = self._victim()
        subject.strikes_left = max(0, subject.strikes_left - 1)
        chance = self.dice.random()
        if chance < 0.08:
            await self._cancel(subject)
        elif chance < 0.12:
            self.tally.others["servers stopped as a user would"] += 1
            await self.site.stop()
            await self.site.start()
        else:
            await self._kill(self.dice.choices(list(_TARGETS), list(_TARGETS.values()))[0], subject)

    def _victim(self) -> Subject:
        """Return the job that runs, else one that waits, else one that is about to be retried."""
        order = {"RUNNING": 0, "CANCELING": 0, "QUEUED": 1}
        return min(self._at_work, key=lambda subject: order.get(subject.follower.status, 2))

    async def _kill(self, target: Target, subject: Subject | None) -> None:
        """Kill a process and wait until it shows; ``subject`` is the job under way."""
        if target == Target.INTERACTIVE_WORKER and self.site.has_one_worker:
            target = Target.JOB_WORKER
        counted = subject is not None and not subject.follower.ended
        state, seen = (subject.state, len(subject.follower.statuses)) if subject else ("", 0)
        if not await self.site.kill(target):
            return
        if subject is None or not counted:
            self.tally.idle_kills += 1
            return
        self.tally.kills[subject.order.kind, target] += 1
        self.tally.states[state] += 1
        if target != Target.INTERACTIVE_WORKER:
            await self._until(lambda: len(subject.follower.statuses) > seen or subject.over)

    async def _cancel(self, subject: Subject) -> None:
        """Cancel a job, now and then for good, now and then with the server's end in the same moment."""
        self.tally.others["jobs canceled"] += 1
        subject.abandoned = self.dice.random() < 0.25
        asked = asyncio.create_task(self.site.do("cancelJob", _CANCELED, id=("ID!", subject.job_id)))
        if self.dice.random() < 0.5:
            await asyncio.sleep(self.dice.uniform(0, REQUEST_SECONDS))
            await self._kill(Target.SERVER, subject)
        await asked

    # ------------------------------------------------------------------------------------ the work

    async def _launch(self) -> None:
        order = self._order()
        launched = asyncio.create_task(launch(self.site, self.reference.inputs, order))
        if self.dice.random() < 0.1:
            self.tally.others["servers killed in a launch"] += 1
            await asyncio.sleep(self.dice.uniform(0, REQUEST_SECONDS))
            await self._kill(Target.SERVER, self._at_work[0] if self._at_work else None)
        self._add(order, await launched)

    def _add(self, order: Order, ids: tuple[str, str]) -> None:
        strikes = self.dice.randint(1, self.most_strikes[order.kind])
        subject = Subject(self.site, order, ids, self.news, self.tally, resumes=self.resumes, strikes=strikes)
        self.subjects.append(subject)
        self._at_work.append(subject)
        self.tally.others[f"jobs: {order.kind}"] += 1

    def _order(self) -> Order:
        """Choose what is furthest behind its share of the kills, out of what there is something for."""
        missing = [name for name in self.reference.inputs.captures if name not in self.runs]
        if missing and not any(s.order.kind == CAPTURE for s in self._at_work):
            return Order(CAPTURE, missing[0], self.language_model_id)
        kind = min(self._possible(), key=self._behind)
        if kind == CAPTURE:
            return Order(
                CAPTURE, self.dice.choice(list(self.reference.inputs.captures)), self.language_model_id
            )
        if kind == INDEX:
            return Order(INDEX, *self.dice.choice(self._to_index()))
        trainings = self.reference.inputs.trainings
        names = [name for name, (capture, _) in trainings.items() if capture in self.runs]
        name = min(names, key=lambda name: (len(self.saes.get(name, [])), self.dice.random()))
        return Order(TRAINING, name, self.runs[trainings[name][0]][0], self.dice.random() < 0.5)

    def _possible(self) -> list[str]:
        there = {CAPTURE: True, TRAINING: bool(self.runs), INDEX: bool(self._to_index())}
        return [kind for kind in KINDS if there[kind]]

    def _to_index(self) -> list[tuple[str, str]]:
        """Return name and ID of SAEs that no job indexes: the newest index takes the others' place."""
        return [(name, id) for name, ids in self.saes.items() for id in ids if self._is_free(id)]

    def _behind(self, kind: str) -> float:
        planned = sum(subject.strikes_left for subject in self._at_work if subject.order.kind == kind)
        done = sum(self.tally.kills[kind, target] for target in Target)
        return (done + planned) / SHARES[kind] + self.dice.random()

    async def _conclude(self, subject: Subject) -> None:
        """Take a job that is over out of the work, and its result into what there is."""
        status = await subject.end()
        self._at_work.remove(subject)
        if status != "SUCCEEDED":
            return
        kind, name = subject.order.kind, subject.order.name
        if kind == CAPTURE:
            self.runs.setdefault(name, []).append(subject.result_id)
            if len(self.runs[name]) > 1 and self.dice.random() < 0.5:
                await self._delete("deleteActivationRun", self.runs[name].pop())
        elif kind == TRAINING:
            self.saes.setdefault(name, []).append(subject.result_id)
            if subject.order.index_neurons:
                await self._adopt_index(subject)
        elif self.dice.random() < 0.4 and len(self.saes[name]) > 1 and self._is_free(subject.result_id):
            self.saes[name].remove(subject.result_id)
            await self._delete("deleteSae", subject.result_id)

    def _is_free(self, sae_id: str) -> bool:
        return all(subject.result_id != sae_id for subject in self._at_work)

    async def _adopt_index(self, training: Subject) -> None:
        """Take over the job that a training has queued."""
        found = (await self.site.ask(_INDEX_JOBS))["jobs"]["nodes"]
        known = {subject.job_id for subject in self.subjects}
        ids = [job["id"] for job in found if job["result"] and job["result"]["id"] == training.result_id]
        new = [id for id in ids if id not in known]
        check = self.tally.check("a training that was to be indexed has queued that")
        check.that(len(new) == 1, f"{training.job_id} queued {len(new)} jobs")
        if new:
            self._add(Order(INDEX, training.order.name, training.result_id), (new[0], training.result_id))

    async def _delete(self, mutation: str, id: str) -> None:
        """Delete for good, mostly with the server's end in the same moment."""
        self.deleted.add(id)
        self.tally.others["runs and SAEs deleted"] += 1
        asked = asyncio.create_task(self.site.do(mutation, _DELETED, id=("ID!", id)))
        if self.dice.random() < 0.7:
            self.tally.others["servers killed in a deletion"] += 1
            await asyncio.sleep(self.dice.uniform(0, REQUEST_SECONDS))
            await self._kill(Target.SERVER, self._at_work[0] if self._at_work else None)
        answer = await asked
        # NotFound where the server has ended between the deletion and its answer.
        check = self.tally.check("a deletion was done")
        check.that(answer["__typename"] in ("Deleted", "NotFound"), f"{id}: {answer}")

    async def _see_to_the_end(self, subject: Subject) -> None:
        await self._until(lambda: subject.over)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self.news:
            await self.news.wait_for(reached)
