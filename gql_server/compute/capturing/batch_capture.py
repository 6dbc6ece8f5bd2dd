"""A run's way through its batches: forward passes here, writing in a thread beside them."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from gql_server.artifacts.disk import check_free, used_bytes
from gql_server.artifacts.manifest import NotFinite, PlannedBatch, RunPlan
from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.capturing.batch_sizes import ForwardPass, joined, passes, tokens_per_pass
from gql_server.compute.capturing.batch_writer import BatchWriter
from gql_server.compute.capturing.captured_batch import CapturedBatch, padded, shapes_of
from gql_server.compute.capturing.detector import Arriving, Detector
from gql_server.compute.capturing.non_finite import added, check_share
from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.compute.devices import moved
from gql_server.compute.language_models.forward import model_device, stopping_after
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.model_files import DTYPES
from gql_server.compute.language_models.text_encoder import Ids, padding_id
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.tasks import CaptureActivations

from mi_crow.language_model.language_model import LanguageModel


class Room:
    """What a capture may still write."""

    def __init__(self, task: CaptureActivations, store: ActivationStore) -> None:
        self._task, self._directory = task, store.base_path
        limit = task.max_artifact_bytes
        self._bytes_left = None if limit is None else limit - used_bytes(Path(task.artifact_dir))

    def divide(self, n_parts: int) -> None:
        """Leave this part its share: none knows what the others have written."""
        self._bytes_left = None if self._bytes_left is None else self._bytes_left // n_parts

    def take(self, n_bytes: int) -> None:
        """Raise OSError where the disk has no room for so much, TaskError where the limit has none."""
        check_free(self._directory, n_bytes, self._task.min_free_bytes)
        self._bytes_left = None if self._bytes_left is None else self._bytes_left - n_bytes
        if self._bytes_left is not None and self._bytes_left < 0:
            raise TaskError(
                "The artifact directory may take no more (GQL_SERVER_MAX_ARTIFACT_BYTES): "
                "delete runs or SAEs, and retry the job."
            )


class BatchCapture:
    """Captures what is missing of a run, or of a part of it."""

    def __init__(
        self,
        task: CaptureActivations,
        context: TaskContext,
        lm: LanguageModel,
        layers: Sequence[str],
        store: ActivationStore,
        token_ids: TokenIds,
        plan: RunPlan,
        check_weights: Callable[[], None],
    ) -> None:
        """Take the layers in the order in which they finish, the deepest last.

        ``check_weights`` raises where batches that have just been computed cannot be believed.
        """
        self._check_weights = check_weights
        self._task, self._context, self._lm = task, context, lm
        self._layers, self._store, self._token_ids, self._batches = layers, store, token_ids, plan.batches
        self._room = Room(task, store)
        self._device = model_device(lm)
        self._pad_id = padding_id(lm)
        self._special_ids = sorted(special_token_ids(lm))
        self._not_finite = NotFinite()
        self._most_tokens = sum(sum(batch.lengths) for batch in plan.batches)
        self._max_tokens = plan.tokens_per_pass or tokens_per_pass(self._device)
        self._stored = self._find_stored()

    def log_stored(self) -> None:
        """Log which batches an earlier attempt has left, if any."""
        if self._stored:
            there = f"{len(self._stored):,} of {len(self._batches):,} batches are there"
            self._context.emit(Log(f"Going on where an earlier attempt ended: {there}."))

    def capture(self, part: int | None = None) -> None:
        """Store every batch that is not there yet; a Progress event says that it is there to stay.

        What goes through the model together is one part's as a whole, so that it goes so in any case.

        Args:
            part: Which of the task's parts, from 0; all of them if it is None.
        """
        groups = list(joined(self._batches, self._max_tokens))
        if part is not None:
            groups = groups[part :: self._task.parts]
            self._room.divide(self._task.parts)
        stored = self._stored.intersection(index for group in groups for index in group)
        progress = _Progress(self._batches, stored, self._context)
        with BatchWriter() as writer:
            for group in groups:
                missing = [index for index in group if index not in stored]
                if not missing:
                    continue
                captured = self._compute(list(passes(self._batches, group, self._max_tokens)), missing)
                self._check_weights()
                for index in missing:
                    self._context.check()
                    batch = captured.pop(index)
                    writer.put(index, batch.arriving.n_bytes, partial(self._write, index, batch))
                    progress.report(writer.written())
            progress.report(writer.finish())

    def _find_stored(self) -> set[int]:
        """Return which batches an earlier attempt, or another part, has left."""
        stored = set()
        for index in self._store.list_run_batches(self._task.run_id):
            self._context.check()
            if index < len(self._batches) and self._store.has_batch(
                self._task.run_id, index, self._batches[index]
            ):
                stored.add(index)
        return stored

    def _compute(
        self, forward_passes: Sequence[ForwardPass], missing: Sequence[int]
    ) -> dict[int, CapturedBatch]:
        """Run passes through the model and return the missing batches."""
        shapes = {index: _shape(self._batches[index]) for index in missing}
        detectors = [Detector(layer, DTYPES[self._task.dtype], shapes) for layer in self._layers]
        token_ids: dict[int, list[Ids]] = {index: [] for index in missing}
        for one in forward_passes:
            self._context.check()
            ids = self._ids(one)
            self._forward(one, ids, detectors)
            for part in one.parts:
                if part.batch in token_ids:
                    token_ids[part.batch] += ids[part.places]
        return {
            index: CapturedBatch(self._batches[index], token_ids[index], *_arriving(index, detectors))
            for index in missing
        }

    def _ids(self, one: ForwardPass) -> list[Ids]:
        ids = self._token_ids.of(one.rows, one.pieces)
        if [len(of_text) for of_text in ids] != one.lengths:
            raise TaskError(
                "The language model's tokenizer gives other tokens than when the capture was planned: "
                "delete the run and capture it again."
            )
        return ids

    def _forward(self, one: ForwardPass, ids: Sequence[Ids], detectors: Sequence[Detector]) -> None:
        input_ids, mask = (moved(tensor, self._device) for tensor in padded(ids, self._pad_id))
        for detector in detectors:
            detector.forward_pass = one
        # Upstream's inference tokenizes anew, keeps a key-value cache, and on CUDA computes in float16.
        with torch.inference_mode(), self._hooked(detectors), stopping_after(self._lm, self._layers[-1]):
            self._lm.model(input_ids=input_ids, attention_mask=mask, use_cache=False)

    @contextmanager
    def _hooked(self, detectors: Sequence[Detector]) -> Iterator[None]:
        """Have the detectors, and no one's controllers, on the shared model for one forward pass."""
        controllers = [one for one in self._lm.layers.get_controllers() if one.enabled]
        try:
            for controller in controllers:
                controller.disable()
            for detector in detectors:
                self._lm.layers.register_hook(detector.layer_signature, detector)
            yield
        finally:
            for detector in detectors:
                self._lm.layers.unregister_hook(detector)
            for controller in controllers:
                controller.enable()

    def _write(self, index: int, captured: CapturedBatch) -> None:
        """Write a batch; in the writer's thread. TaskError where too much of the run is not finite."""
        tensors, not_finite = captured.tensors(self._pad_id, self._special_ids)
        self._not_finite = added(self._not_finite, not_finite)
        check_share(self._not_finite, self._most_tokens, self._task)
        self._room.take(sum(tensor.nbytes for of_layer in tensors.values() for tensor in of_layer.values()))
        # Upstream's lm.save_detector_metadata saves every detector on the model, somebody else's too.
        self._store.put_batch(
            self._task.run_id, index, captured.planned, shapes_of(tensors), tensors, not_finite
        )


class _Progress:
    """Tells in texts how many batches are there, those that were stored before at once."""

    def __init__(self, batches: Sequence[PlannedBatch], stored: set[int], context: TaskContext) -> None:
        self._batches, self._context = batches, context
        self._total = sum(len(batch.rows) for batch in batches)
        self._computed, self._before = 0, sum(len(batches[index].rows) for index in stored)
        self._start = time.monotonic()
        if stored:
            self._context.emit(Progress(self._before, self._total))

    def report(self, written: Iterable[int]) -> None:
        """Send an event for each batch that is there now."""
        for index in written:
            self._computed += len(self._batches[index].rows)
            rate = self._computed / (time.monotonic() - self._start)
            self._context.emit(Progress(self._before + self._computed, self._total, rate))


def _shape(batch: PlannedBatch) -> tuple[int, int]:
    return len(batch.rows), max(batch.lengths)


def _arriving(index: int, detectors: Sequence[Detector]) -> tuple[Arriving, Arriving]:
    """Fetch a batch's activations and flaws; TaskError where a layer did not give a vector per token."""
    for detector in detectors:
        if index not in detector.kept:
            raise TaskError(f"The layer {detector.layer_signature} did not give one vector per token.")
    return (
        Arriving({str(one.layer_signature): one.kept.pop(index) for one in detectors}),
        Arriving({str(one.layer_signature): one.flaws.pop(index) for one in detectors}),
    )
