"""Whether the jobs' logs are whole: each number once, each attempt after an end, the same for all readers."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.faults.database import Row, rows
from tests.faults.follower import EVENT, Follower
from tests.faults.site import Site
from tests.faults.subject import Subject
from tests.faults.tally import Tally

_PAGE = 100
_EVENTS = f"""query($id: ID!, $after: Int!) {{
  job(id: $id) {{ events(first: {_PAGE}, after: $after) {{ {EVENT} }} }} }}"""
_AFTER = {
    None: {"QUEUED"},
    "QUEUED": {"RUNNING", "CANCELED"},
    "RUNNING": {"SUCCEEDED", "CANCELING", "CANCELED", "INTERRUPTED"},
    "CANCELING": {"CANCELED", "SUCCEEDED", "INTERRUPTED"},
    "CANCELED": {"QUEUED"},
    "INTERRUPTED": {"QUEUED"},
}
LONGEST_LINE = 400
WENT_ON = ("Going on where an earlier attempt ended", "Going on after step")
BEGAN_ANEW = ("so the training begins anew", "Capturing ", "so the capture begins anew", "Indexing ")


async def check_readers(site: Site, subjects: list[Subject], tally: Tally) -> None:
    """Compare what each subscriber got with the pages of the log; needs a server."""
    check = tally.check("events that a subscriber got once, in order, as the log has them")
    for subject in subjects:
        log = await _read(site, subject.job_id)
        _compare(subject.follower, log, tally)
        check.count += len(log) - 1
        tally.others["subscriptions"] += subject.follower.subscriptions


def _compare(follower: Follower, log: list[dict[str, Any]], tally: Tally) -> None:
    numbers = [event["sequence"] for event in log]
    pages = tally.check("logs read in pages, numbers 1, 2, 3 …")
    pages.that(numbers == list(range(1, len(log) + 1)), f"{follower.job_id}: {_odd(numbers)}")
    check = tally.check("events that a subscriber got once, in order, as the log has them")
    got = [event["sequence"] for event in follower.events]
    different = next((a for a, b in zip(follower.events, log, strict=False) if a != b), None)
    what = f"{follower.job_id}: got {len(got)} of {len(log)}, {_odd(got)}, the first different: {different}"
    check.that(follower.events == log, what)


async def _read(site: Site, job_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while True:
        found = await site.ask(_EVENTS, id=job_id, after=events[-1]["sequence"] if events else 0)
        page = found["job"]["events"]
        events += page
        if len(page) < _PAGE:
            return events


def check_logs(directory: Path, tally: Tally) -> None:
    """Look at the tables of jobs and events."""
    events: dict[str, list[Row]] = defaultdict(list)
    for event in rows(directory, "job_events", "job_id, sequence"):
        events[event["job_id"]].append(event)
    for job in rows(directory, "jobs"):
        _check_job(job, events[job["id"]], tally)


def _check_job(job: Row, log: list[Row], tally: Tally) -> None:
    id, status = job["id"], job["status"]
    tally.check("jobs that ended").that(
        status in ("SUCCEEDED", "CANCELED"), f"{id} is {status}: {job['error']}"
    )
    numbers = [event["sequence"] for event in log]
    tally.check("events in the database, numbers 1, 2, 3 …").count += len(log) - 1
    tally.check("events in the database, numbers 1, 2, 3 …").that(
        numbers == list(range(1, job["last_sequence"] + 1)), f"{id}: {_odd(numbers)}"
    )
    _check_attempts(job, [event["payload"] for event in log if event["type"] == "STATUS"], tally)
    _count_resumptions(log, tally)


def _check_attempts(job: Row, changes: list[dict[str, Any]], tally: Tally) -> None:
    check = tally.check("changes of status that may follow one another")
    before, attempt = None, 0
    for change in changes:
        status = change["status"]
        attempt += status == "QUEUED"
        what = f"{job['id']}: {status} (attempt {change['attempt']}) after {before} (attempt {attempt})"
        check.that(status in _AFTER.get(before, ()) and change["attempt"] == attempt, what)
        before = status
    ends_as = (before, attempt) == (job["status"], job["attempt"])
    check.that(ends_as, f"{job['id']} is {job['status']} ({job['attempt']}), its log ends with {before}")


def _count_resumptions(log: list[Row], tally: Tally) -> None:
    """Count what attempts after the first said about where they began."""
    attempt, said = 0, True
    for event in log:
        payload = event["payload"]
        if event["type"] == "STATUS" and payload["status"] == "RUNNING":
            attempt, said = payload["attempt"], False
            tally.others["later attempts that began"] += attempt > 1
        if event["type"] == "LOG" and attempt > 1 and not said:
            went_on = payload["message"].startswith(WENT_ON)
            anew = any(words in payload["message"] for words in BEGAN_ANEW)
            said = went_on or anew
            tally.others["later attempts that went on from something"] += went_on
            tally.others["later attempts that began anew"] += anew and not went_on


def check_server_log(directory: Path, tally: Tally) -> None:
    """Look for errors in what the servers and workers have said."""
    check = tally.check("lines of the servers' log without an error")
    for line in (directory / "server.log").read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
            fine = said.get("level") not in ("error", "critical")
        except (ValueError, AttributeError):
            fine = "Traceback" not in line
        check.that(fine, line[:LONGEST_LINE])


def _odd(numbers: list[int]) -> str:
    """Say where numbers leave 1, 2, 3 …"""
    place = next((n for n, number in enumerate(numbers, 1) if n != number), None)
    return "all in order" if place is None else f"number {place} is {numbers[place - 1]}"
