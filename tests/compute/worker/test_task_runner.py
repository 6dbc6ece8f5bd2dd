"""Which method does which task: every task has one, and where one is missing that is told at import."""

import pytest

from gql_server.compute.worker import task_runner
from gql_server.protocol.tasks import Download, Generate, Task
from gql_server.protocol.wire import message_classes


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
