"""What an evaluation measures, summed up batch by batch in float64.

Definitions and their sources: docs/evaluation.md. Positions are chosen before: what comes here counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute.language_models.padding import PaddedBatch
from gql_server.compute.non_finite import MAX_SHARE
from gql_server.compute.training.metrics import IntervalMetrics, finite, float64

_MAX_WIDE_LOGITS = 2**21
"""Logits converted to float64 at once: 16 MB, and a few times that for intermediate results."""


@dataclass(frozen=True)
class ReconstructionSummary:
    """How near the reconstructions are; None where undefined or not finite."""

    token_count: int
    mse: float | None
    explained_variance: float | None
    l0: float | None
    dead_fraction: float | None
    """Share of neurons that have fired on none of the tokens."""
    cosine_similarity: float | None
    relative_reconstruction_bias: float | None


class ReconstructionMetrics:
    """Sums over tokens: their activations x, reconstructions x_hat and latents."""

    def __init__(self, n_latents: int) -> None:
        # Mean squared error, explained variance and L0 are those of a training point.
        self._interval = IntervalMetrics()
        self._fired = torch.zeros(n_latents, dtype=torch.bool)
        self._cosines = 0.0
        self._products = 0.0
        self._squares = 0.0

    def update(self, x: Tensor, x_hat: Tensor, latents: Tensor) -> None:
        """Add tokens: x and x_hat [n, n_inputs], latents [n, n_latents]."""
        self._interval.update(x, x_hat, torch.count_nonzero(latents), loss=torch.zeros(()))
        self._fired |= (latents != 0).any(dim=0).cpu()
        x, x_hat = float64(x), float64(x_hat)
        products = (x * x_hat).sum(dim=1)
        lengths = x.norm(dim=1) * x_hat.norm(dim=1)
        # Of a zero vector, such as the reconstruction where nothing fires, the cosine counts as 0.
        self._cosines += float(torch.where(lengths == 0, 0.0, products / lengths).sum())
        self._products += float(products.sum())
        self._squares += float(x_hat.square().sum())

    def summary(self) -> ReconstructionSummary:
        """Read the statistics of the tokens so far."""
        interval = self._interval.summary()
        n = interval.n_rows
        return ReconstructionSummary(
            token_count=n,
            mse=interval.mse,
            explained_variance=interval.explained_variance,
            l0=interval.l0,
            dead_fraction=float((~self._fired).double().mean()) if n else None,
            cosine_similarity=ratio(self._cosines, n),
            relative_reconstruction_bias=ratio(self._squares, self._products),
        )


@dataclass(frozen=True)
class Targets:
    """The predicted tokens of a batch: those that count and that a real token comes before."""

    positions: Tensor
    """[n], counted through the batch: where the logits are that predict them, one token before."""
    token_ids: Tensor
    """[n]"""

    @classmethod
    def of(cls, batch: PaddedBatch, token_mask: Tensor) -> "Targets":
        """Find them; ``token_mask`` [n_texts, n_positions] leaves out padding and special tokens."""
        # The first token of a text that is padded on the left has only padding before it.
        predicted = token_mask[:, 1:] & batch.attention_mask[:, :-1].bool()
        texts, places = predicted.nonzero(as_tuple=True)
        return cls(texts * token_mask.shape[1] + places, batch.input_ids[:, 1:][predicted])

    def chunks(self, n_vocabulary: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give positions and token ids in chunks whose logits fit into memory in float64."""
        size = max(1, _MAX_WIDE_LOGITS // n_vocabulary)
        return zip(self.positions.split(size), self.token_ids.split(size), strict=True)


@dataclass(frozen=True)
class PredictionSummary:
    """How well the next tokens are predicted, in nats per predicted token; None as above."""

    token_count: int
    original: float | None
    reconstructed: float | None
    zero_ablated: float | None
    recovered: float | None
    """(zero_ablated - reconstructed) / (zero_ablated - original)."""
    kl_divergence: float | None
    """Of the predictions with the reconstruction from the model's own: KL(original || reconstructed)."""


class PredictionMetrics:
    """Sums over predicted tokens, under the model as it is, with the reconstruction, and zero-ablated."""

    def __init__(self) -> None:
        self._n = 0
        self._original = 0.0
        self._reconstructed = 0.0
        self._zero_ablated = 0.0
        self._divergence = 0.0
        self._n_unpredictable = 0

    def predictable(self, targets: Targets, logits: Tensor) -> Targets:
        """Leave out targets that the model itself has no finite logits for: its numbers overflow there."""
        finite = logits.amax(dim=-1).flatten()[targets.positions].isfinite().to(targets.positions.device)
        self._n_unpredictable += int((~finite).sum())
        return Targets(targets.positions[finite], targets.token_ids[finite])

    def update(self, logits: Tensor, reconstructed: Tensor, targets: Targets) -> None:
        """Add a batch's logits [n_texts, n_positions, vocabulary], the model's own and the reconstructed."""
        self._n += len(targets.token_ids)
        for positions, ids in targets.chunks(logits.shape[-1]):
            own = _log_probabilities(logits, positions)
            other = _log_probabilities(reconstructed, positions)
            self._original += _cross_entropy(own, ids)
            self._reconstructed += _cross_entropy(other, ids)
            self._divergence += _divergence(own, other)

    def update_zero_ablated(self, logits: Tensor, targets: Targets) -> None:
        """Add the same batch's logits with the layer zeroed."""
        for positions, ids in targets.chunks(logits.shape[-1]):
            self._zero_ablated += _cross_entropy(_log_probabilities(logits, positions), ids)

    def summary(self) -> PredictionSummary:
        """Read the statistics of the batches so far; none where too many predictions were left out."""
        if self._n_unpredictable > MAX_SHARE * (self._n + self._n_unpredictable):
            return PredictionSummary(self._n, None, None, None, None, None)
        lost = self._zero_ablated - self._reconstructed
        return PredictionSummary(
            token_count=self._n,
            original=ratio(self._original, self._n),
            reconstructed=ratio(self._reconstructed, self._n),
            zero_ablated=ratio(self._zero_ablated, self._n),
            recovered=ratio(lost, self._zero_ablated - self._original),
            kl_divergence=ratio(self._divergence, self._n),
        )


def _log_probabilities(logits: Tensor, positions: Tensor) -> Tensor:
    return float64(logits.flatten(0, 1)[positions]).log_softmax(dim=-1)


def _cross_entropy(log_probabilities: Tensor, token_ids: Tensor) -> float:
    """Sum the cross-entropies of rows [n, vocabulary] with the tokens that came."""
    ids = token_ids.to(log_probabilities.device)
    return -float(log_probabilities.gather(1, ids[:, None]).sum())


def _divergence(own: Tensor, other: Tensor) -> float:
    """Sum KL(own || other) over rows of log-probabilities; what cannot come (0 log 0) adds nothing."""
    probabilities = own.exp()
    return float(torch.where(probabilities > 0, probabilities * (own - other), 0.0).sum())


def ratio(above: float, below: float) -> float | None:
    """Divide; None where that is undefined or not finite."""
    return finite(above / below) if below != 0 else None
