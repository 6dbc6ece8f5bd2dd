"""A worker process without torch: what a task does is the name of its language model."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from gql_server.compute.worker.channel import Channel
from gql_server.compute.worker.context import CancelRequested, TaskContext
from gql_server.compute.worker.main import Worker, ignore_signals_to_stop
from gql_server.protocol.events import Log
from gql_server.protocol.results import Done, Result
from gql_server.protocol.tasks import LoadLanguageModel, Task, UnloadLanguageModel
from gql_server.protocol.wire import FromWorker, LanguageModelChanged, WorkerReady


class ScriptedTools:
    def __init__(self, send: Callable[[FromWorker], None]) -> None:
        self._send = send

    def describe(self) -> WorkerReady:
        return WorkerReady(["cpu"], [])

    def rest(self, idle_seconds: float) -> None:
        pass

    def do(self, task: Task, context: TaskContext) -> Result:
        assert isinstance(task, UnloadLanguageModel | LoadLanguageModel)
        name = task.language_model_id if isinstance(task, UnloadLanguageModel) else "deaf"
        if isinstance(task, LoadLanguageModel):
            self._send(LanguageModelChanged("lm", "LOADING"))
        print("what a library prints", flush=True)
        match name:
            case "print":
                os.write(1, b"\x1b[2J of a name\n50%\r" + b"x" * 5_000)
            case "die":
                os._exit(7)
            case "garbage":
                os.write(int(sys.argv[1]), b"\x00\x00\x00\x02no")
            case "until canceled":
                while True:
                    context.check()
                    time.sleep(0.001)
            case "deaf":
                with suppress(CancelRequested):
                    context.emit(Log(name))
                time.sleep(600)
            case "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fail":
                raise ZeroDivisionError("on purpose")
        context.emit(Log(name))
        return Done()


if __name__ == "__main__":
    ignore_signals_to_stop()
    Worker(Channel(socket.socket(fileno=int(sys.argv[1]))), ScriptedTools, 900).serve()
