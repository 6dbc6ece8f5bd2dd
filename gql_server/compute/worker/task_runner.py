"""Which function does which task, and what the tasks of one worker share: loaded models and SAEs."""

import time
from collections.abc import Callable, Collection
from contextvars import Context, ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
import torch
from structlog.contextvars import bind_contextvars

from gql_server.compute import mi_crow_compat  # noqa: F401  (before anything that imports overcomplete)
from gql_server.compute.capturing.capture import capture_activations, capture_part, prepare_parts
from gql_server.compute.devices import choose_device, devices
from gql_server.compute.evaluating.evaluation import evaluate_sae
from gql_server.compute.formats.sae_export import export_neurons, export_sae
from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.generating.generation import Generations, generate
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.inspection.attribution import attribute_neurons
from gql_server.compute.inspection.contrast import contrast_neurons
from gql_server.compute.inspection.neuron_activations import read_neuron_activations
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.pairing import check_pair, paired
from gql_server.compute.provenance.index_provenance import with_provenance
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.training import train_sae
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.base import Message
from gql_server.protocol.events import Log, Progress, Stage
from gql_server.protocol.results import Done, Result
from gql_server.protocol.tasks import (
    AttributeNeurons,
    CaptureActivations,
    CapturePart,
    ContrastNeurons,
    Download,
    EvaluateSae,
    ExportSae,
    FindTopNeurons,
    Generate,
    ImportSae,
    IndexNeurons,
    LoadLanguageModel,
    PlanCapture,
    ReadNeuronActivations,
    Task,
    TrainSae,
    UnloadLanguageModel,
)
from gql_server.protocol.wire import LanguageModelChanged, LanguageModelFound, WorkerReady, message_classes

log = structlog.get_logger(__name__)


TaskT = TypeVar("TaskT", bound=Task)
Method = Callable[[Any, TaskT, TaskContext], Result]
_METHODS: dict[type[Message], Method[Any]] = {}
_in_hand: ContextVar[TaskContext] = ContextVar("_in_hand")
"""The context of the task that is being done."""


def does(task: type[TaskT]) -> Callable[[Method[TaskT]], Method[TaskT]]:
    """Make a method the one that does a class of tasks."""

    def register(method: Method[TaskT]) -> Method[TaskT]:
        _METHODS[task] = method
        return method

    return register


class TaskRunner:
    """Does any task. ``on_change`` is told of language models that come and go.

    ``device`` is torch's name of where to compute, or None for the best here; ``matmul_precision`` that of
    ``torch.set_float32_matmul_precision``, for the whole process.
    """

    def __init__(
        self,
        on_change: Callable[[LanguageModelChanged | LanguageModelFound], None],
        device: str | None = None,
        matmul_precision: str = "highest",
    ) -> None:
        torch.set_float32_matmul_precision(matmul_precision)
        self._asked = device
        self._devices = devices(device)
        self._on_change = on_change
        self.language_models = LanguageModels(self._pass_on, self._devices[0], on_change)
        self._classes = SaeClasses()
        self._saes = Saes(self._classes, self._devices[0])
        self._generations = Generations()

    def describe(self) -> WorkerReady:
        """Return what this worker offers."""
        return WorkerReady(devices=self._devices, sae_classes=self._classes.describe())

    def rest(self, idle_seconds: float) -> None:
        """Let go of language models that nothing has used for so long."""
        self.language_models.unload_idle(idle_seconds)

    def do(self, task: Task, context: TaskContext) -> Result:
        """Do a task. Raises TaskError, CancelRequested, or whatever a mistake raises."""
        # A context of its own: in the middle of a job's task, an interactive one may be done.
        return Context().run(self._do_and_tell, task, context)

    def _do_and_tell(self, task: Task, context: TaskContext) -> Result:
        bind_contextvars(**task.subject())
        _in_hand.set(context)
        began = time.perf_counter()
        self._check_device()
        result = _METHODS[type(task)](self, task, context)
        log.info("task done", task=type(task).__name__, seconds=round(time.perf_counter() - began, 3))
        return result

    def _pass_on(self, change: LanguageModelChanged) -> None:
        """Tell of a language model; whoever waits for a task is told, too, that one is being loaded."""
        context = _in_hand.get(None)
        if change.status == "LOADING" and context is not None:
            # First, since it may break the task off: nothing would end the loading that was told of.
            context.emit(Stage("loading the language model", 0, None))
        self._on_change(change)

    def _check_device(self) -> None:
        try:
            choose_device(self._asked)
        except TaskError as error:
            raise TaskError(f"GQL_SERVER_WORKER_DEVICE is wrong. {error}", "CONFLICT") from error

    @does(LoadLanguageModel)
    def _load(self, task: LoadLanguageModel, context: TaskContext) -> Result:
        source, began = task.language_model, time.perf_counter()
        context.emit(Progress(0, 1))
        description = self.language_models.describe(source)
        seconds = time.perf_counter() - began
        for note in self.language_models.notes(source):
            context.emit(Log(note))
        context.emit(Log(f"Loaded {description.parameter_count:,} parameters in {seconds:.1f} s."))
        return description

    @does(UnloadLanguageModel)
    def _unload(self, task: UnloadLanguageModel, context: TaskContext) -> Result:
        self.language_models.unload(task.language_model_id)
        return Done()

    @does(CaptureActivations)
    def _capture(self, task: CaptureActivations, context: TaskContext) -> Result:
        return capture_activations(task, context, self.language_models)

    @does(PlanCapture)
    def _plan_capture(self, task: PlanCapture, context: TaskContext) -> Result:
        prepare_parts(task.capture, context, self.language_models)
        return Done()

    @does(CapturePart)
    def _capture_part(self, task: CapturePart, context: TaskContext) -> Result:
        capture_part(task.capture, task.part, context, self.language_models)
        return Done()

    @does(TrainSae)
    def _train(self, task: TrainSae, context: TaskContext) -> Result:
        here = msgspec.structs.replace(task, device=task.device or self._devices[0])
        return train_sae(here, context, self._classes)

    @does(IndexNeurons)
    def _index(self, task: IndexNeurons, context: TaskContext) -> Result:
        sae, store = self._saes.get(task.sae), ActivationStore(Path(task.store_dir))
        if task.language_model is not None and task.made_with is not None:
            # Before the pass over the run; and again where the model is loaded, after it.
            check_pair(task.made_with, self.language_models.identify(task.language_model, context.check))
        result = index_neurons(task, context, sae, store, self.language_models)
        return with_provenance(result, task, context, store)

    @does(EvaluateSae)
    def _evaluate(self, task: EvaluateSae, context: TaskContext) -> Result:
        with paired(self.language_models, task.language_model, task.made_with) as (lm, origin):
            unchanged = partial(self.language_models.check_not_overwritten, task.language_model)
            return evaluate_sae(task, context, lm, self._saes.get(task.sae), origin, unchanged)

    @does(ImportSae)
    def _import(self, task: ImportSae, context: TaskContext) -> Result:
        return import_sae(task, context, self._classes, self.language_models)

    @does(ExportSae)
    def _export(self, task: ExportSae, context: TaskContext) -> Result:
        if task.neurons is not None:
            return export_neurons(task, context)
        return export_sae(task, context, self._saes.get(task.sae))

    @does(FindTopNeurons)
    def _find_top(self, task: FindTopNeurons, context: TaskContext) -> Result:
        with paired(self.language_models, task.language_model, task.made_with) as (lm, _):
            return find_top_neurons(task, context, lm, self._saes.get(task.sae))

    @does(ContrastNeurons)
    def _contrast(self, task: ContrastNeurons, context: TaskContext) -> Result:
        with paired(self.language_models, task.language_model, task.made_with) as (lm, _):
            return contrast_neurons(task, context, lm, self._saes.get(task.sae))

    @does(ReadNeuronActivations)
    def _read_activations(self, task: ReadNeuronActivations, context: TaskContext) -> Result:
        with paired(self.language_models, task.language_model, task.made_with) as (lm, _):
            return read_neuron_activations(task, context, lm, self._saes.get(task.sae))

    @does(AttributeNeurons)
    def _attribute(self, task: AttributeNeurons, context: TaskContext) -> Result:
        with paired(self.language_models, task.language_model, task.made_with) as (lm, _):
            return attribute_neurons(task, context, lm, self._saes.get(task.sae))

    @does(Generate)
    def _generate(self, task: Generate, context: TaskContext) -> Result:
        with paired(self.language_models, task.language_model, task.made_with) as (lm, _):
            sae = self._saes.get(task.sae) if task.sae else None
            return generate(task, context, lm, sae, self._generations)


def check_complete(done: Collection[type[Message]]) -> None:
    """Raise TypeError where a task has no method; downloads have a worker of their own."""
    for task in message_classes(Task):
        if task not in done and not issubclass(task, Download):
            raise TypeError(
                f"Nothing does {task.__name__}: add a method with @does({task.__name__}) to "
                "gql_server/compute/worker/task_runner.py."
            )


check_complete(_METHODS)
