"""Runs texts through a language model and stores what some of its layers put out."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gql_server.compute import upstream  # noqa: F401  (before mi_crow)
from gql_server.compute.capturing.capture_plan import tokenizer_options
from gql_server.compute.capturing.hub_dataset import download
from gql_server.compute.capturing.run_plan import run_plan
from gql_server.compute.context import TaskContext, TaskError
from gql_server.compute.language_models.loading import (
    LanguageModels,
    depth_order,
    position_limit,
    special_token_ids,
)
from gql_server.compute.language_models.model_files import DTYPES
from gql_server.compute.messages.events import Log, Progress
from gql_server.compute.messages.results import CapturedLayer, CaptureResult
from gql_server.compute.messages.tasks import CaptureActivations
from gql_server.compute.origins.provenance import language_model_provenance
from gql_server.compute.stored.store import MASKS, ActivationStore
from gql_server.compute.stored.texts import open_texts
from gql_server.datasets import TextDataset
from gql_server.disk import check_free, used_bytes
from gql_server.manifest import (
    Manifest,
    PlannedBatch,
    assemble,
    write_manifest,
)

from mi_crow.hooks.hook import HOOK_FUNCTION_INPUT, HOOK_FUNCTION_OUTPUT
from mi_crow.hooks.implementations.layer_activation_detector import LayerActivationDetector
from mi_crow.hooks.implementations.model_input_detector import ModelInputDetector
from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.store import TensorMetadata


def capture_activations(
    task: CaptureActivations,
    context: TaskContext,
    language_models: LanguageModels,
    store: ActivationStore | None = None,
) -> CaptureResult:
    """Store the layers' activations over the task's texts, and the run's manifest when all batches are there.

    Batches that an earlier attempt has stored are kept. Raises TaskError where the input is at fault.
    """
    store = store or ActivationStore(Path(task.store_dir))
    lm = language_models.get(task.language_model)
    layers = depth_order(lm, list(dict.fromkeys(task.layers)))
    _check_max_length(lm, task.max_length)
    dataset = _open_dataset(task, context)
    origin = language_model_provenance(task.language_model, language_models, context.check)
    plan = run_plan(task, lm, origin, layers, dataset, store, context)
    _Capture(task, context, lm, layers, store, dataset).run(plan.batches)
    manifest = assemble(store.run_directory(task.run_id))
    assert manifest is not None
    write_manifest(store.manifest_path(task.run_id), manifest)
    _log_end(manifest, context)
    return CaptureResult(
        layers=[CapturedLayer(layer.name, layer.hidden_size or 0) for layer in manifest.layers],
        dataset_sample_count=len(dataset),
        sample_count=manifest.sample_count,
        batch_count=len(manifest.batches),
        token_count=manifest.token_count,
        byte_size=manifest.byte_size,
        provenance=manifest.provenance,
    )


def _check_max_length(lm: LanguageModel, max_length: int) -> None:
    n_special = lm.tokenizer.num_special_tokens_to_add()
    if max_length <= n_special:
        reason = f"A text gets {n_special} special tokens, which do not count, so maxLength must be higher."
        raise TaskError(reason, "INVALID", ("maxLength",))
    limit = position_limit(lm)
    if limit is not None and max_length > limit:
        reason = f"The language model takes {limit} tokens at most, so maxLength cannot be {max_length}."
        raise TaskError(reason, "INVALID", ("maxLength",))


def _open_dataset(task: CaptureActivations, context: TaskContext) -> TextDataset:
    directory = Path(task.dataset_dir)
    if task.hub_dataset is not None:
        wanted = None if task.sample_limit is None else task.sample_offset + task.sample_limit
        context.emit(Log(f"Getting texts from {task.hub_dataset.repository}."))
        download(task.hub_dataset, directory, wanted, task.max_texts, context)
    return open_texts(directory)


class _Detector(LayerActivationDetector):
    """Keeps a copy of a layer's output on the CPU.

    Upstream's keeps the output itself, which a later layer may change in place, and from CUDA it converts a
    copy before that has arrived.
    """

    def process_activations(
        self, module: torch.nn.Module, input: HOOK_FUNCTION_INPUT, output: HOOK_FUNCTION_OUTPUT
    ) -> None:
        tensor = extract_tensor_from_output(output)
        if tensor is not None:
            self.tensor_metadata["activations"] = tensor.detach().to("cpu", self.target_dtype, copy=True)
            self.metadata["activations_shape"] = tuple(tensor.shape)


def _bytes_left(task: CaptureActivations) -> int | None:
    if task.max_artifact_bytes is None:
        return None
    return task.max_artifact_bytes - used_bytes(Path(task.artifact_dir))


class _Capture:
    """One run's way through its batches."""

    def __init__(
        self,
        task: CaptureActivations,
        context: TaskContext,
        lm: LanguageModel,
        layers: list[str],
        store: ActivationStore,
        dataset: TextDataset,
    ) -> None:
        self._task, self._context, self._lm = task, context, lm
        self._layers, self._store, self._dataset = layers, store, dataset
        self._bytes_left = _bytes_left(task)
        dtype = DTYPES[task.dtype]
        self._detectors = [_Detector(layer, f"gql_server-{uuid.uuid4().hex}", dtype) for layer in layers]
        # Never registered: upstream fills every registered one, enabled or not, at anybody's inference.
        self._inputs = ModelInputDetector(save_attention_mask=True, special_token_ids=special_token_ids(lm))

    def run(self, batches: list[PlannedBatch]) -> None:
        """Store every batch that is not there yet, with a Progress event after each."""
        total = sum(len(batch.rows) for batch in batches)
        completed = computed = 0
        start = time.monotonic()
        stored = self._stored(batches)
        for index, batch in enumerate(batches):
            self._context.check()
            if index not in stored:
                self._store_batch(index, batch)
                computed += len(batch.rows)
            completed += len(batch.rows)
            rate = computed / (time.monotonic() - start) if computed else None
            self._context.emit(Progress(completed, total, rate))

    def _stored(self, batches: list[PlannedBatch]) -> set[int]:
        """Return which batches an earlier attempt has left, and say so."""
        stored = set()
        for index in self._store.list_run_batches(self._task.run_id):
            self._context.check()
            if index < len(batches) and self._store.has_batch(self._task.run_id, index, batches[index]):
                stored.add(index)
        if stored:
            there = f"{len(stored):,} of {len(batches):,} batches are there"
            self._context.emit(Log(f"Going on where an earlier attempt ended: {there}."))
        return stored

    def _store_batch(self, index: int, batch: PlannedBatch) -> None:
        self._forward([self._dataset[row] for row in batch.rows])
        self._check_tensors(batch)
        tensors: TensorMetadata = {one.layer_signature: one.tensor_metadata for one in self._detectors}
        tensors[MASKS] = self._inputs.tensor_metadata
        metadata: dict[str, Any] = {one.layer_signature: one.metadata for one in self._detectors}
        self._check_room(sum(tensor.nbytes for of_layer in tensors.values() for tensor in of_layer.values()))
        # Upstream's lm.save_detector_metadata saves every detector on the model, somebody else's too.
        self._store.put_batch(
            self._task.run_id, index, batch, metadata | {MASKS: self._inputs.metadata}, tensors
        )
        for detector in (*self._detectors, self._inputs):
            detector.clear_captured()

    def _check_room(self, n_bytes: int) -> None:
        """Raise OSError where the disk has no room for a batch, TaskError where the limit has none."""
        check_free(self._store.base_path, n_bytes, self._task.min_free_bytes)
        self._bytes_left = None if self._bytes_left is None else self._bytes_left - n_bytes
        if self._bytes_left is not None and self._bytes_left < 0:
            raise TaskError(
                "The artifact directory may take no more (GQL_SERVER_MAX_ARTIFACT_BYTES): "
                "delete runs or SAEs, and retry the job."
            )

    def _forward(self, texts: list[str]) -> None:
        with self._hooked():
            _, encodings = self._lm.inference.execute_inference(
                texts,
                tok_kwargs=tokenizer_options(self._task.max_length),
                # Upstream would compute in float16 on CUDA, whatever the model's precision.
                autocast=False,
                with_controllers=False,
                # Upstream's save_activations stops after the layer listed last, and loses any deeper one.
                stop_after_layer=self._layers[-1],
            )
        self._inputs.set_inputs_from_encodings(encodings)

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Have the detectors on the shared model for one forward pass; no other pass is taken for ours."""
        try:
            for detector in self._detectors:
                self._lm.layers.register_hook(detector.layer_signature, detector)
            yield
        finally:
            for detector in self._detectors:
                self._lm.layers.unregister_hook(detector)

    def _check_tensors(self, batch: PlannedBatch) -> None:
        """Raise TaskError where a layer did not give a vector per token, or the dtype cannot hold it."""
        shape = (len(batch.rows), max(batch.lengths))
        for detector in self._detectors:
            tensor = detector.get_captured()
            if tensor is None or tensor.ndim != 3 or tensor.shape[:2] != shape:
                raise TaskError(f"The layer {detector.layer_signature} did not give one vector per token.")
            mask = self._inputs.get_captured_attention_mask()
            if tensor.dtype == torch.float16 and not tensor[mask].isfinite().all():
                reason = (
                    f"Activations of {detector.layer_signature} do not fit into FLOAT16; BFLOAT16 holds them."
                )
                raise TaskError(reason, "INVALID", ("dtype",))


def _log_end(manifest: Manifest, context: TaskContext) -> None:
    megabytes = manifest.byte_size / 1e6
    sentence = (
        f"Stored {manifest.token_count:,} tokens of {manifest.sample_count:,} texts in "
        f"{len(manifest.batches):,} batches, {megabytes:,.1f} MB."
    )
    context.emit(Log(sentence))
