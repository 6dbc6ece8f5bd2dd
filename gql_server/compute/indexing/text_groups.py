"""A stored run's texts with what fires on them, in groups of whole texts that fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.manifest import Manifest, ManifestBatch
from gql_server.artifacts.top_texts import TextTokenizer
from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.exclusions import token_mask
from gql_server.compute.indexing.statistics import Firings, joined
from gql_server.compute.indexing.stretches import stretch_keys
from gql_server.compute.indexing.strongest_texts import TextGroup
from gql_server.compute.indexing.text_numbers import TextNumbers
from gql_server.compute.non_finite import MAX_SHARE
from gql_server.compute.saes.encoding import sparse_latents_of
from gql_server.compute.storage.rows import CAPTURE_AGAIN
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import Progress
from gql_server.protocol.exclusions import Exclusions

from mi_crow.mechanistic.sae.sae import Sae

MAX_GROUP_LATENTS = 8_000_000
"""Latents that are dense in memory at once: 32 MB of float32, and a few times that inside the SAE."""
MAX_FIRINGS = 1_000_000
"""Firings of a group: 20 MB, and a few times that while they are counted."""
MAX_PLACES = 4_000_000
"""Limit on a group's texts times neurons: 32 MB for each of a few tables."""
MAX_TOKENS = 4_000_000
"""Tokens of a group, whether anything fires on them or not: 32 MB."""
PaddingSide = Literal["left", "right"]


@dataclass(frozen=True)
class Chunk:
    """Whole texts of a stored batch, and those of their tokens that count, text by text."""

    numbers: list[int]
    """Numbers of the texts or of their pieces, as TextNumbers has them."""
    lengths: list[int]
    activations: Tensor
    """[n_tokens, n_inputs]"""
    texts: Tensor
    """Which text each token is of, counted in the chunk: [n_tokens]."""
    tokens: Tensor
    """Its place in that text, padding left out: [n_tokens]."""
    stretches: Tensor
    """The key of each token's stretch, of all tokens of the texts: [sum of lengths]."""


@dataclass
class Tally:
    """Tokens neither padding nor special that were left out."""

    excluded: int = 0
    non_finite: int = 0


@dataclass(frozen=True)
class StoredTexts:
    """One layer's activations on a run's texts; those of excluded tokens are left out."""

    store: ActivationStore
    manifest: Manifest
    layer: str
    dataset: TextDataset
    tokenizer: TextTokenizer
    numbers: TextNumbers
    exclusions: Exclusions = Exclusions()  # noqa: RUF009 (it is frozen)
    left_out: Tally = field(default_factory=Tally)
    _sides: dict[int, PaddingSide] = field(default_factory=dict)
    """Padding side of each batch read so far, by its index."""

    def token_ids(self, batch: ManifestBatch) -> Tensor:
        """Return a stored batch's token ids, int64 [n_texts, n_positions], padded at the right.

        Raises TaskError where they are not those that the tokenizer gives.
        """
        captured = self.store.read_input_ids(self.manifest.run_id, batch.index)
        if batch.index not in self._sides:
            self._sides[batch.index] = self._padding_side(batch, captured)
        if self._sides[batch.index] == "right":
            return captured
        n_positions = captured.shape[1]
        padding = n_positions - torch.tensor(batch.lengths)
        places = torch.arange(n_positions) + padding[:, None]
        return captured.gather(1, places.clamp(max=n_positions - 1))

    def chunks(self, batch: ManifestBatch, most: int) -> Iterator[Chunk]:
        """Give a stored batch in chunks of whole texts, of at most ``most`` tokens where they have several.

        Raises TaskError where its tokens are not those that the tokenizer gives.
        """
        token_ids, lengths = self.token_ids(batch), torch.tensor(batch.lengths)
        activations = self.store.read_activations(self.manifest.run_id, batch.index, self.layer)
        mask = self.store.read_mask(self.manifest.run_id, batch.index)
        padding = torch.zeros(len(mask), dtype=torch.int64)
        if self._sides[batch.index] == "left":
            padding = mask.shape[1] - lengths
        for start, stop in _runs(mask.sum(dim=1).tolist(), most):
            here = mask[start:stop]
            texts, places = here.nonzero(as_tuple=True)
            tokens, found = places - padding[start + texts], activations[start:stop][here]
            counts = self._kept(tokens, found)
            kept = slice(None) if bool(counts.all()) else counts
            yield Chunk(
                self.numbers.of(batch.rows[start:stop], batch.pieces[start:stop]),
                batch.lengths[start:stop],
                found[kept],
                texts[kept],
                tokens[kept],
                stretch_keys(token_ids[start:stop], lengths[start:stop]),
            )

    def _kept(self, tokens: Tensor, activations: Tensor) -> Tensor:
        """Say which tokens count: bool [n_tokens]. TaskError where too many of the run are not finite."""
        finite = activations.isfinite().all(dim=1)
        kept = finite & token_mask(self.exclusions, tokens, activations)
        self.left_out.non_finite += int((~finite).sum())
        self.left_out.excluded += int((finite & ~kept).sum())
        if self.left_out.non_finite > MAX_SHARE * self.manifest.token_count:
            reason = (
                f"More than {MAX_SHARE:.0%} of the run's activations are NaN or infinite. {CAPTURE_AGAIN}"
            )
            raise TaskError(reason, "CONFLICT")
        return kept

    def _padding_side(self, batch: ManifestBatch, captured: Tensor) -> PaddingSide:
        """Return where a batch is padded, which its shortest text shows.

        Raises TaskError where its shortest or longest text's tokens are not those that were captured:
        positions would then mean something else here.
        """
        by_length = sorted(range(len(batch.rows)), key=lambda place: batch.lengths[place])
        sides: list[PaddingSide] = ["right", "left"]
        places = (by_length[0], by_length[-1])
        texts = [self.dataset[batch.rows[place]] for place in places]
        pieces = [batch.pieces[place] if batch.pieces else 0 for place in places]
        cut = self.tokenizer.cut(texts, self.manifest.max_length, split=bool(batch.pieces))
        tokenized = [text.piece(piece) for text, piece in zip(cut, pieces, strict=True)]
        for place, text in zip(places, tokenized, strict=True):
            length, row = batch.lengths[place], captured[place].tolist()
            found = {"right": row[:length], "left": row[len(row) - length :]}
            sides = [side for side in sides if found[side] == text.ids]
        if not sides:
            reason = "The language model's tokenizer does not give the tokens that the activation run holds."
            raise TaskError(reason, "CONFLICT")
        return sides[0]


def _runs(sizes: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Split consecutive items into runs of total size at most ``most``; a larger item is a run of its own."""
    start, total = 0, 0
    for place, size in enumerate(sizes):
        if place > start and total + size > most:
            yield start, place
            start, total = place, 0
        total += size
    if sizes:
        yield start, len(sizes)


class _Gathered:
    """Texts and their firings, until there are enough of them for a group."""

    def __init__(self, sae: Sae, n_positions: int) -> None:
        self._sae = sae
        self._n_positions = n_positions
        self._device = torch.device(sae.context.device)
        self._numbers: list[int] = []
        self._lengths: list[int] = []
        self._token_counts: list[Tensor] = []
        self._parts: list[Firings] = []
        self._stretches: list[Tensor] = []
        self._n_stretches = 0
        self._n_firings = 0
        self._n_tokens = 0

    @property
    def full(self) -> bool:
        """Whether no more should be added."""
        n_places = len(self._numbers) * self._sae.context.n_latents
        return self._n_firings > MAX_FIRINGS or n_places > MAX_PLACES or self._n_stretches > MAX_TOKENS

    def add(self, chunk: Chunk) -> None:
        """Encode some texts; keep what is not zero."""
        if len(chunk.activations) == 0:
            return  # All its tokens are left out.
        positions = (len(self._numbers) + chunk.texts) * self._n_positions + chunk.tokens
        size = max(1, MAX_GROUP_LATENTS // self._sae.context.n_latents)
        parts = zip(chunk.activations.split(size), positions.to(self._device).split(size), strict=True)
        for activations, places in parts:
            with torch.inference_mode():
                sparse = sparse_latents_of(self._sae, activations.to(self._device, torch.float32))
                self._parts.append(Firings(places[sparse.rows], sparse.neurons, sparse.values))
                self._n_firings += len(sparse.values)
        self._stretches.append(chunk.stretches.to(self._device))
        self._n_stretches += len(chunk.stretches)
        self._numbers += chunk.numbers
        self._lengths += chunk.lengths
        self._token_counts.append(torch.bincount(chunk.texts, minlength=len(chunk.lengths)))
        self._n_tokens += len(chunk.activations)

    def take(self) -> Iterator[tuple[TextGroup, Firings, int]]:
        """Give what was gathered, if there is anything, and forget it."""
        if self._parts:
            numbers = torch.tensor(self._numbers, device=self._device)
            lengths = torch.tensor(self._lengths, device=self._device)
            counts = torch.cat(self._token_counts).to(self._device)
            group = TextGroup(numbers, lengths, self._n_positions, torch.cat(self._stretches), counts)
            parts, n_tokens = self._parts, self._n_tokens
            self._numbers, self._lengths, self._token_counts = [], [], []
            self._parts, self._stretches = [], []
            self._n_firings = self._n_tokens = self._n_stretches = 0
            yield group, joined(parts), n_tokens


def text_groups(
    sae: Sae, stored: StoredTexts, context: TaskContext
) -> Iterator[tuple[TextGroup, Firings, int]]:
    """Encode a run; give its texts in groups, with their firings and the number of tokens that count.

    Tells the context how many tokens have been encoded. TaskError where latents are not finite.
    """
    manifest, encoded, encoded_before = stored.manifest, 0, 0
    gathered = _Gathered(sae, manifest.max_length)
    for batch in manifest.batches:
        # Other requests may run inside a check, so it is no place for inference mode.
        context.check()
        for chunk in stored.chunks(batch, max(1, MAX_GROUP_LATENTS // sae.context.n_latents)):
            gathered.add(chunk)
            if gathered.full:
                yield from gathered.take()
            context.check()
            # Large SAEs take seconds for a batch.
            encoded = min(encoded + len(chunk.activations), encoded_before + batch.token_count)
            context.emit(Progress(encoded, manifest.token_count))
        encoded = encoded_before = encoded_before + batch.token_count
        context.emit(Progress(encoded, manifest.token_count))
    yield from gathered.take()
