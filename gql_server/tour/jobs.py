"""Following a job from its launch to its end, with a progress bar."""

import asyncio
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gql_server.tour import documents
from gql_server.tour.client import Api, TourError

INDEX_JOB_SECONDS = 30


async def launch_and_follow(
    api: Api, console: Console, title: str, document: str, **variables: Any
) -> Mapping[str, Any]:
    """Launch a job, show its progress, and return it once it has succeeded.

    A job of an earlier tour that did not succeed is tried again; it resumes where it can.

    Raises:
        TourError: The launch was refused, or the job ended otherwise.
    """
    launched = (await api.ask(document, **variables))["result"]
    job = launched["job"]
    if launched["outcome"] == "REPLAYED" and job["status"] in {"FAILED", "CANCELED", "INTERRUPTED"}:
        job = (await api.ask(documents.RETRY_JOB, id=job["id"]))["result"]["job"]
    return await follow(api, console, title, job["id"])


async def follow(api: Api, console: Console, title: str, job_id: str) -> Mapping[str, Any]:
    """Show a job's progress until its end; raises TourError unless it succeeds."""
    columns = (
        TextColumn("[bold]{task.description:<22}"),
        BarColumn(bar_width=max(10, min(30, console.width - 70))),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]} [green]{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=None, unit="", note="")
        async for event in api.events(job_id):
            _show(progress, bar, event)
    job: Mapping[str, Any] | None = (await api.ask(documents.JOB, id=job_id))["job"]
    if job is None or job["status"] != "SUCCEEDED":
        reason = job and (job["error"] or f"it ended as {job['status']}")
        raise TourError(f"{title} did not succeed: {reason or 'the job is gone'}")
    return job


async def find_index_job(api: Api, sae_id: str) -> str:
    """Return the ID of the newest job that indexes an SAE's neurons; a training queues one at its end."""
    for _ in range(INDEX_JOB_SECONDS * 4):
        jobs = (await api.ask(documents.INDEX_JOBS))["jobs"]["nodes"]
        for job in jobs:
            if job["result"] and job["result"]["id"] == sae_id:
                return str(job["id"])
        await asyncio.sleep(0.25)
    raise TourError("The training queued no job to index the neurons.")


def _show(progress: Progress, bar: TaskID, event: Mapping[str, Any]) -> None:
    match event["__typename"]:
        case "JobProgressed":
            state = event["progress"]
            counts = {"completed": state["completed"], "total": state["total"]}
            progress.update(bar, unit=state["unit"].lower(), **counts)
        case "TrainingStepped":
            progress.update(bar, note=_training_note(event["point"]))
        case "JobLogged":
            progress.console.print(f"  [dim]{escape(event['message'])}[/]", highlight=False)
        case "JobStatusChanged" if event["status"] == "SUCCEEDED":
            total = progress.tasks[bar].total or 1
            progress.update(bar, total=total, completed=total)


def _training_note(point: Mapping[str, Any]) -> str:
    explained, dead = point["explainedVariance"], point["deadFraction"]
    parts = [f"L0 {point['l0']:.0f}"]
    if explained is not None:
        parts.insert(0, f"EV {explained:.3f}")
    if dead is not None:
        parts.append(f"dead {dead:.0%}")
    return " ".join(parts)
