"""Passes over a stored run with an SAE: statistics and strongest texts of every neuron."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from gql_server.artifacts.disk import check_free
from gql_server.artifacts.manifest import Manifest, read_manifest
from gql_server.artifacts.top_texts import TextTokenizer, load_tokenizer
from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.indexing.correlations import correlated_neurons
from gql_server.compute.indexing.directions import direction_tensors
from gql_server.compute.indexing.examples import FiringExamples
from gql_server.compute.indexing.firing_sample import FiringSample, KeptFirings
from gql_server.compute.indexing.kept_tokens import SlowSource, shown_tokens, write_token_texts
from gql_server.compute.indexing.search_file import write_search_file
from gql_server.compute.indexing.silent_texts import DrawnTexts, near_texts
from gql_server.compute.indexing.statistics import StatisticsCounter
from gql_server.compute.indexing.stretches import count_texts
from gql_server.compute.indexing.strongest_texts import StrongestTexts
from gql_server.compute.indexing.text_groups import StoredTexts, text_groups
from gql_server.compute.indexing.text_numbers import TextNumbers
from gql_server.compute.indexing.top_texts_file import shown_texts, write_top_texts_file
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.rows import StoredRows
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.storage.texts import open_texts
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.compute.worker.stages import stage
from gql_server.protocol.events import Log
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import HistogramMessage, IndexResult
from gql_server.protocol.tasks import IndexNeurons

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

N_FREQUENCY_BINS = 20


def index_neurons(
    task: IndexNeurons,
    context: TaskContext,
    sae: Sae,
    store: ActivationStore,
    language_models: LanguageModels,
) -> IndexResult:
    """Write the index as the store's run ``task.index_id``, and the top-texts file.

    Raises TaskError where the run or the tokenizer is not there, or they do not belong together, or no token
    is left, or latents are not finite.
    """
    manifest = _manifest(task, store)
    dataset = open_texts(Path(task.dataset_dir))
    slow = _slow_model(task, language_models)
    begin = manifest.begin_token_ids
    tokenizer = TextTokenizer(SlowSource(slow), begin) if slow else _tokenizer(task, begin)
    if task.attempt > 1:
        context.emit(Log("An index is made in one go, so it begins anew."))
    context.emit(Log(f"Indexing {sae.context.n_latents:,} neurons over {manifest.token_count:,} tokens."))
    numbers, exclusions = TextNumbers(manifest.batches), _measured(task, context, store)
    stored = StoredTexts(store, manifest, task.sae.layer, dataset, tokenizer, numbers, exclusions)
    tensors, firings = _firing_tensors(task, context, sae, stored)
    n_neurons = sae.context.n_latents
    tensors |= correlated_neurons(firings, n_neurons, stage(context, "correlating neurons"))
    if not firings.is_whole:
        told = f"{firings.token_count:,} of {manifest.token_count:,} tokens"
        context.emit(
            Log(f"Correlations and silent texts of similar neurons are told by {told}, whole texts.")
        )
    of_directions, origin = direction_tensors(task, context, sae, language_models)
    tensors |= of_directions
    choosing = stage(context, "choosing silent texts")
    tensors |= near_texts(firings, tensors["similar_neurons"], tensors.pop("top_numbers"), choosing)
    del firings
    if slow is not None:
        tensors |= shown_tokens(tensors, dataset, tokenizer, manifest.max_length, context)
        write_token_texts(slow, Path(task.tokenizer_dir))
    n_bytes = sum(tensor.nbytes for tensor in tensors.values())
    check_free(Path(task.store_dir), n_bytes, task.min_free_bytes)
    stage(context, "writing the index")(0, 1)
    store.put_run_batch(task.index_id, 0, tensors)
    shown = shown_texts(tensors, dataset, tokenizer, manifest.max_length, context)
    write_top_texts_file(task, tensors, shown, context)
    write_search_file(task, store.run_directory(task.index_id), tensors, shown, context)
    return msgspec.structs.replace(_result(stored, tensors, context), language_model=origin)


def _measured(task: IndexNeurons, context: TaskContext, store: ActivationStore) -> Exclusions:
    """Return the exclusions, with the run's own median norm where they need one and the SAE knows none."""
    if task.exclusions.outliers is None or task.exclusions.median_norm is not None:
        return task.exclusions
    return StoredRows(store, task.run_id, task.sae.layer, context.check, task.exclusions).exclusions


def _manifest(task: IndexNeurons, store: ActivationStore) -> Manifest:
    try:
        manifest = read_manifest(store.manifest_path(task.run_id))
    except (OSError, msgspec.DecodeError):
        raise TaskError("The activation run has no manifest, so it cannot be indexed.", "CONFLICT") from None
    layers = [layer.name for layer in manifest.layers]
    if task.sae.layer not in layers:
        reason = f"The activation run has no layer {task.sae.layer!r}; it has {', '.join(layers)}."
        raise TaskError(reason, "CONFLICT")
    return manifest


def _slow_model(task: IndexNeurons, language_models: LanguageModels) -> LanguageModel | None:
    """Return the language model where its tokenizer has no tokenizer.json, so that it has to be asked."""
    if (Path(task.tokenizer_dir) / "tokenizer.json").exists() or task.language_model is None:
        return None
    lm = language_models.get(task.language_model)
    # A load writes the file where there can be one.
    return None if lm.tokenizer.is_fast else lm


def _tokenizer(task: IndexNeurons, begin: Sequence[int] | None) -> TextTokenizer:
    try:
        return load_tokenizer(Path(task.tokenizer_dir), begin)
    except FileNotFoundError:
        reason = "The language model has no tokenizer.json, without which top texts cannot be shown."
        raise TaskError(reason, "CONFLICT") from None


def _firing_tensors(
    task: IndexNeurons, context: TaskContext, sae: Sae, stored: StoredTexts
) -> tuple[dict[str, Tensor], KeptFirings]:
    """Pass over the run once; return the index's tensors of when neurons fire, and the firings to compare."""
    device, n_neurons = torch.device(sae.context.device), sae.context.n_latents
    statistics = StatisticsCounter(n_neurons, device)
    strongest = StrongestTexts(n_neurons, task.top_texts_per_neuron, device)
    examples, drawn, sample = FiringExamples(n_neurons), DrawnTexts(n_neurons), FiringSample()
    for group, firings, token_count in text_groups(sae, stored, context):
        with torch.inference_mode():
            bins = statistics.add(firings, token_count)
            strongest.add(firings, group)
            here = firings.to(torch.device("cpu"))
            examples.add(here, group, bins.cpu(), statistics.exponents)
            drawn.add(here, group)
            sample.add(here, group)
    if statistics.token_count == 0:
        reason = "No token of the run is left to index: exclude less, or index over another run."
        raise TaskError(reason, "INVALID", ("excludeFirstPositions",))
    with torch.inference_mode():
        tensors = statistics.tensors() | strongest.tensors() | examples.tensors() | drawn.tensors()
    for of in ("example", "drawn"):
        tensors |= stored.numbers.tensors(tensors.pop(f"{of}_numbers"), of)
    tensors |= stored.numbers.tensors(tensors["top_numbers"], "top")
    return tensors | {"top_text_counts": _text_counts(stored, strongest, context)}, sample.kept()


def _text_counts(stored: StoredTexts, strongest: StrongestTexts, context: TaskContext) -> Tensor:
    """Return in how many texts each stretch stands that a neuron's top texts show, 0 where there is none."""
    tell, all_batches = stage(context, "counting equal stretches"), stored.manifest.batches

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(all_batches):
            tell(number, len(all_batches))
            yield stored.token_ids(batch), torch.tensor(batch.lengths)

    stretches, there = strongest.stretches()
    return count_texts(stretches, batches()) * there


def _result(stored: StoredTexts, tensors: dict[str, Tensor], context: TaskContext) -> IndexResult:
    manifest, left_out, counts = stored.manifest, stored.left_out, tensors["firing_count"]
    token_count = manifest.token_count - left_out.excluded - left_out.non_finite
    dead = int((counts == 0).sum())
    without = f"; {left_out.excluded:,} were excluded" if left_out.excluded else ""
    without += f"; {left_out.non_finite:,} were not finite" if left_out.non_finite else ""
    context.emit(
        Log(f"Indexed {len(counts):,} neurons over {token_count:,} tokens; {dead:,} never fired{without}.")
    )
    logs = np.log10(counts[counts > 0].double().numpy() / token_count)
    bins, edges = np.histogram(logs, N_FREQUENCY_BINS, (float(np.log10(1 / token_count)), 0.0))
    return IndexResult(
        token_count=token_count,
        sample_count=manifest.sample_count,
        dead_count=dead,
        frequency_histogram=HistogramMessage(edges.tolist(), bins.tolist()),
        exclusions=stored.exclusions,
        excluded_token_count=left_out.excluded,
        non_finite_token_count=left_out.non_finite,
    )
