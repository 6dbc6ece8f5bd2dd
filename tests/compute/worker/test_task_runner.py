"""Which method does which task, and what a task is told of its language model."""

import pytest

from gql_server.compute.worker import task_runner
from gql_server.compute.worker.context import CancelRequested
from gql_server.compute.worker.task_runner import TaskRunner
from gql_server.protocol.events import Event, Stage
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import Download, Generate, LoadLanguageModel, Task
from gql_server.protocol.wire import LanguageModelChanged, LanguageModelFound, message_classes
from tests.compute.conftest import RecordingContext


def test_every_task_but_downloads_has_a_method() -> None:
    tasks = {task for task in message_classes(Task) if not issubclass(task, Download)}
    assert set(task_runner._METHODS) == tasks


def test_a_task_without_a_method_is_told() -> None:
    rest = set(task_runner._METHODS) - {Generate}
    with pytest.raises(TypeError) as told:
        task_runner.check_complete(rest)
    assert str(told.value) == (
        "Nothing does Generate: add a method with @does(Generate) to "
        "gql_server/compute/worker/task_runner.py."
    )


class Told(RecordingContext):
    """Counts what the API has been told of language models when a stage is told of."""

    def __init__(self, changes: list[LanguageModelChanged | LanguageModelFound], canceled: bool) -> None:
        super().__init__()
        self._changes, self._canceled = changes, canceled
        self.before: dict[str, int] = {}

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, Stage):
            self.before[event.name] = len(self._changes)
            if self._canceled:
                raise CancelRequested


def test_a_task_is_told_that_its_language_model_is_loaded_and_no_load_is_told_of_that_is_called_off(
    tiny_source: LanguageModelSource,
) -> None:
    changes: list[LanguageModelChanged | LanguageModelFound] = []
    runner = TaskRunner(changes.append, "cpu")
    called_off = Told(changes, canceled=True)
    with pytest.raises(CancelRequested):
        runner.do(LoadLanguageModel(tiny_source), called_off)
    assert changes == []

    context = Told(changes, canceled=False)
    runner.do(LoadLanguageModel(tiny_source), context)
    assert context.before == {"loading the language model": 0}
    statuses = [one.status for one in changes if isinstance(one, LanguageModelChanged)]
    assert statuses == ["LOADING", "LOADED"]

    again = Told(changes, canceled=False)
    runner.do(LoadLanguageModel(tiny_source), again)
    assert again.before == {}, "it is loaded by now"
    runner.rest(0)
    assert len(changes) == 4, "letting go of a model is of no task"
