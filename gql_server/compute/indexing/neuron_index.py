"""Passes over a stored run with an SAE: statistics and strongest texts of every neuron."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from gql_server.compute import upstream  # noqa: F401  (before mi_crow)
from gql_server.compute.context import TaskContext, TaskError
from gql_server.compute.indexing.directions import direction_tensors
from gql_server.compute.indexing.statistics import Firings, NeuronStatistics, joined
from gql_server.compute.indexing.strongest_texts import StrongestTexts, TextGroup
from gql_server.compute.indexing.top_texts_file import write_top_texts_file
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.messages.events import Log, Progress
from gql_server.compute.messages.results import Histogram, IndexResult
from gql_server.compute.messages.tasks import IndexNeurons
from gql_server.compute.saes.finite import encode
from gql_server.compute.stored.store import ActivationStore
from gql_server.compute.stored.texts import open_texts
from gql_server.datasets import TextDataset
from gql_server.disk import check_free
from gql_server.manifest import Manifest, ManifestBatch, read_manifest
from gql_server.top_texts import TokenizedText, load_tokenizer

from mi_crow.mechanistic.sae.sae import Sae

MAX_DENSE_LATENTS = 8_000_000
"""Latents that are dense in memory at once: 32 MB of float32, and a few times that inside the SAE."""
MAX_FIRINGS = 2_000_000
"""Latents that are not zero, kept at once until they are counted: 40 MB."""
N_FREQUENCY_BINS = 20
PaddingSide = Literal["left", "right"]


def index_neurons(
    task: IndexNeurons,
    context: TaskContext,
    sae: Sae,
    store: ActivationStore,
    language_models: LanguageModels,
) -> IndexResult:
    """Write the index as the store's run ``task.index_id``, and the top-texts file.

    Raises TaskError where the run or the tokenizer is not there, or they do not belong together, or latents
    are not finite.
    """
    manifest = _manifest(task, store)
    dataset = open_texts(Path(task.dataset_dir))
    tokenizer = _tokenizer(task)
    if task.attempt > 1:
        context.emit(Log("An index is made in one go, so it begins anew."))
    context.emit(Log(f"Indexing {sae.context.n_latents:,} neurons over {manifest.token_count:,} tokens."))
    device = torch.device(sae.context.device)
    statistics = NeuronStatistics(sae.context.n_latents, device)
    strongest = StrongestTexts(sae.context.n_latents, task.top_texts_per_neuron, device)
    for batch in manifest.batches:
        # Other requests may run inside a check, so it is no place for inference mode.
        context.check()
        side = _padding_side(store, manifest, batch, dataset, tokenizer)
        for group, firings, token_count in _groups(sae, store, task, batch, side):
            with torch.inference_mode():
                statistics.add(firings, token_count)
                strongest.add(firings, group)
            context.check()
        context.emit(Progress(statistics.token_count, manifest.token_count))
    with torch.inference_mode():
        tensors = statistics.tensors() | strongest.tensors()
    tensors |= direction_tensors(task, context, sae, language_models)
    n_bytes = sum(tensor.nbytes for tensor in tensors.values())
    check_free(Path(task.store_dir), n_bytes, task.min_free_bytes)
    store.put_run_batch(task.index_id, 0, tensors)
    write_top_texts_file(task, tensors, dataset, tokenizer, manifest.max_length, context)
    return _result(manifest, tensors, context)


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


def _tokenizer(task: IndexNeurons) -> Tokenizer:
    try:
        return load_tokenizer(Path(task.tokenizer_dir))
    except FileNotFoundError:
        reason = "The language model has no tokenizer.json, without which top texts cannot be shown."
        raise TaskError(reason, "CONFLICT") from None


def _padding_side(
    store: ActivationStore,
    manifest: Manifest,
    batch: ManifestBatch,
    dataset: TextDataset,
    tokenizer: Tokenizer,
) -> PaddingSide:
    """Return where a batch is padded, which its shortest text shows.

    Raises TaskError where its shortest or longest text's tokens are not those that were captured: positions
    would then mean something else here.
    """
    captured = store.read_input_ids(manifest.run_id, batch.index).tolist()
    by_length = sorted(range(len(batch.rows)), key=lambda place: batch.lengths[place])
    sides: list[PaddingSide] = ["right", "left"]
    for place in (by_length[0], by_length[-1]):
        ids = TokenizedText(dataset[batch.rows[place]], tokenizer, manifest.max_length).ids
        length, row = batch.lengths[place], captured[place]
        found = {"right": row[:length], "left": row[len(row) - length :]}
        sides = [side for side in sides if found[side] == ids]
    if not sides:
        reason = "The language model's tokenizer does not give the tokens that the activation run holds."
        raise TaskError(reason, "CONFLICT")
    return sides[0]


def _groups(
    sae: Sae, store: ActivationStore, task: IndexNeurons, batch: ManifestBatch, side: PaddingSide
) -> Iterator[tuple[TextGroup, Firings, int]]:
    """Give a stored batch in groups of whole texts whose firings fit into memory; with the token count."""
    activations = store.read_activations(task.run_id, batch.index, task.sae.layer)
    mask = store.read_mask(task.run_id, batch.index)
    n_texts, n_positions = mask.shape
    size = max(1, MAX_DENSE_LATENTS // (n_positions * sae.context.n_latents))
    first, parts, firing_count = 0, list[Firings](), 0
    for start in range(0, n_texts, size):
        stop = min(start + size, n_texts)
        positions = mask[start:stop].flatten().nonzero().flatten() + start * n_positions
        parts.append(_firings(sae, activations[start:stop][mask[start:stop]], positions))
        firing_count += len(parts[-1].values)
        full = firing_count > MAX_FIRINGS or (stop - first) * sae.context.n_latents > MAX_DENSE_LATENTS
        if full or stop == n_texts:
            group = _text_group(batch, first, stop, n_positions, side, parts[0].values.device)
            yield group, joined(parts), int(mask[first:stop].sum())
            first, parts, firing_count = stop, [], 0


def _text_group(
    batch: ManifestBatch, first: int, stop: int, n_positions: int, side: PaddingSide, device: torch.device
) -> TextGroup:
    rows = torch.tensor(batch.rows[first:stop], device=device)
    lengths = torch.tensor(batch.lengths[first:stop], device=device)
    begins = n_positions - lengths if side == "left" else torch.zeros_like(lengths)
    return TextGroup(first, rows, lengths, begins, n_positions)


def _firings(sae: Sae, tokens: Tensor, positions: Tensor) -> Firings:
    """Encode tokens [n, n_inputs] in portions; keep what is not zero."""
    device = torch.device(sae.context.device)
    portion = max(1, MAX_DENSE_LATENTS // sae.context.n_latents)
    parts = []
    for start in range(0, len(tokens), portion):
        # The sparse codes: what mi_crow's own hook reports are the codes before ReLU and top-k.
        with torch.inference_mode():
            codes = encode(sae, tokens[start : start + portion].to(device, torch.float32))
            token, neuron = codes.nonzero(as_tuple=True)
            parts.append(Firings(positions.to(device)[start + token], neuron, codes[token, neuron]))
    return joined(parts)


def _result(manifest: Manifest, tensors: dict[str, Tensor], context: TaskContext) -> IndexResult:
    counts = tensors["firing_count"]
    dead = int((counts == 0).sum())
    context.emit(
        Log(f"Indexed {len(counts):,} neurons over {manifest.token_count:,} tokens; {dead:,} never fired.")
    )
    logs = np.log10(counts[counts > 0].double().numpy() / manifest.token_count)
    bins, edges = np.histogram(logs, N_FREQUENCY_BINS, (float(np.log10(1 / manifest.token_count)), 0.0))
    return IndexResult(
        token_count=manifest.token_count,
        sample_count=manifest.sample_count,
        dead_count=dead,
        frequency_histogram=Histogram(edges.tolist(), bins.tolist()),
    )
