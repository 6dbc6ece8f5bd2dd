"""What a kind of job has to have, told at import where it has not."""

from collections.abc import Sequence
from typing import Any

import pytest

from gql_server.jobs.handler import Handler, JobHandler
from gql_server.protocol.base import Message
from gql_server.protocol.results import Done, ExportResult
from gql_server.protocol.tasks import ExportSae, Task
from gql_server.services import job_kinds
from gql_server.services.job_kinds import HANDLERS
from gql_server.services.sae_exports import ExportHandler
from gql_server.settings import Settings
from models import Job
from models.enums import JobKind, ProgressUnit


class Stranger(Message, frozen=True):
    """A message that no union has."""


def test_each_kind_has_one_handler_and_each_handler_a_task_of_its_own() -> None:
    found = job_kinds.handlers(Settings())
    assert list(found) == list(JobKind)
    assert all(handler.kind == kind for kind, handler in found.items())
    assert len({handler.task for handler in HANDLERS}) == len(JobKind)


def changed(**attributes: Any) -> type[Handler]:
    return type("Changed", (ExportHandler,), attributes)


class Unwritten(JobHandler[ExportSae, ExportResult]):
    kind = JobKind.EXPORT_SAE
    description = "Does nothing."
    unit = ProgressUnit.BYTES
    task = ExportSae
    result = ExportResult


@pytest.mark.parametrize(
    ("handlers", "sentence"),
    [
        (
            HANDLERS[:-1],
            "No handler has the kind EXPORT_SAE: write a subclass of JobHandler with it in a module of "
            "gql_server/services, and add that to HANDLERS in gql_server/services/job_kinds.py.",
        ),
        (
            [*HANDLERS, changed()],
            "ExportHandler and Changed both have the kind EXPORT_SAE; give one of them a kind of its own.",
        ),
        (
            [*HANDLERS[:-1], Unwritten],
            "Unwritten lacks lane, begin, describe, keep, requeue, which gql_server/jobs/handler.py"
            " explains.",
        ),
        *(
            (
                [*HANDLERS[:-1], changed(**{name: value})],
                "Stranger of Changed cannot be sent: make it a subclass of Task, Result or Event in "
                "gql_server/protocol/tasks.py, results.py or events.py.",
            )
            for name, value in (("task", Stranger), ("result", Stranger), ("events", (Stranger,)))
        ),
    ],
)
def test_what_is_not_whole_is_told(handlers: Sequence[type[Handler]], sentence: str) -> None:
    with pytest.raises(TypeError) as told:
        job_kinds.by_kind(handlers)
    assert str(told.value) == sentence


async def test_a_result_of_another_kind_is_not_kept() -> None:
    class Kept(ExportHandler):
        async def keep(self, session: Any, job: Job, result: ExportResult) -> None:
            raise AssertionError("kept")

    with pytest.raises(TypeError, match="EXPORT_SAE makes ExportResult, not Done"):
        await Kept(Settings()).succeed(None, Job(), Done())  # type: ignore[arg-type]


def test_tasks_are_no_results() -> None:
    with pytest.raises(TypeError, match="ExportSae of Changed cannot be sent"):
        job_kinds.by_kind([*HANDLERS[:-1], changed(result=ExportSae)])
    assert issubclass(ExportSae, Task)
