"""What a worker sends for a task, as scripts of a FakeExecutor."""

from gql_server.jobs.executor import TaskFailure, TaskRun
from gql_server.protocol.events import (
    GeneratedToken,
    Log,
    Progress,
    TokenGenerated,
    TrainingConfigChosen,
    TrainingPointMessage,
)
from gql_server.protocol.results import (
    CapturedLayer,
    CaptureResult,
    GenerateResult,
    HistogramMessage,
    IndexResult,
    TopNeuronsResult,
    TrainResult,
)
from gql_server.protocol.tasks import (
    CaptureActivations,
    FindTopNeurons,
    Generate,
    IndexNeurons,
    Task,
    TrainSae,
)
from gql_server.protocol.wire import TaskFailed

TOKEN = GeneratedToken(0, 1, "x", 0.0, [], [])
TRAINING_CONFIG = TrainingConfigChosen(1, 100, 4, 0.001, 0.0, 0, "cpu")


def capture_result() -> CaptureResult:
    return CaptureResult([CapturedLayer("m_layers_1", 8)], 1, 1, 1, 5, 4096)


def succeed(task: Task, run: TaskRun) -> None:
    """End a capture, a training or an index well."""
    match task:
        case CaptureActivations():
            run.push(Log("begin"))
            run.push(Progress(1, 1, 10.0))
            run.finish(capture_result())
        case TrainSae():
            run.push(TRAINING_CONFIG)
            point = TrainingPointMessage(1, 1, 100, 0.5, 0.4, float("nan"), 4.0, None, 0.001, 1000.0)
            run.push(point)
            run.finish(TrainResult(8, TRAINING_CONFIG, point))
        case IndexNeurons():
            run.finish(IndexResult(5, 1, 3, HistogramMessage([-1.0, 0.0], [29])))


def fail_to_load(task: Task, run: TaskRun) -> None:
    run.begin()
    run.finish(TaskFailure(TaskFailed(1, "FAILED", "There is no such directory.", [], "")))


def infer(task: Task, run: TaskRun) -> None:
    """Find no top neurons; generate three tokens."""
    run.begin()
    match task:
        case FindTopNeurons():
            run.finish(TopNeuronsResult([]))
        case Generate():
            for _ in range(3):
                run.push(TokenGenerated(0, "BASELINE", TOKEN))
            run.finish(GenerateResult(False))
