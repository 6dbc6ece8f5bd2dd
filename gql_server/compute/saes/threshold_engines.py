"""Engines with a decoder bias that keep what is above thresholds: one for all latents, or each its own."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gql_server.compute.saes.affine_engine import AffineEngine
from gql_server.compute.saes.engine import ForwardOutput, plain
from gql_server.compute.saes.sparse_latents import SparseLatents, SparsityPattern, chunks
from gql_server.compute.saes.starting import spread_batches
from gql_server.compute.saes.weights import SaeWeights

BANDWIDTH = 0.1
"""How far from its threshold a latent still moves it, on scaled activations, whose inputs are of size 1.

The paper takes 0.001 of inputs whose vectors have length 1, for trainings of billions of tokens; so narrow a
window would move hardly a threshold in some hundred steps.
"""
L0_WEIGHT = 1.0
"""Weight of (L0 / k - 1)² in the loss, in units of the activations' variance per input."""
BELOW_THRESHOLD_WEIGHT = 3e-4
"""Weight of dead neurons' distance from their thresholds, in the same units."""
_THRESHOLD_MOMENTUM = 0.9
_SURELY_BELOW = 0.8
"""Share of the remembered threshold below which a batch's own threshold hardly ever is."""
_TOKENS_TO_GUESS_FROM = 64
"""Sample size for guessing a batch's threshold: a sixteenth of the work for a batch of 1,024."""


class ThresholdEngine(AffineEngine):
    """f keeps a positive pre-activation above ``threshold``, which is one number or [n_latents]."""

    threshold: Tensor

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Keep what is above."""
        return torch.relu(pre_activations) * (pre_activations > self.threshold)

    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return those above their thresholds."""
        return SparseLatents.above(pre_activations, self.threshold.clamp(min=0))

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """As for all; thresholds are as large as latents."""
        super().fold_scale(scale)
        self.threshold.div_(scale)

    def weights(self) -> SaeWeights:
        """Return the weights of an engine in evaluation mode; a threshold below 0 lets pass what 0 does."""
        thresholds = plain(self.threshold).clamp(min=0).expand(self.nb_concepts).clone()
        return replace(super().weights(), k=None, threshold=thresholds)


class BatchTopKEngine(ThresholdEngine):
    """In training f keeps the k n largest of a batch of n tokens; then, those above one threshold.

    The threshold is the mean over batches of the smallest latent kept (Bussmann et al. 2024, BatchTopK Sparse
    Autoencoders): in training over recent ones, an estimate that lags behind the weights, and in the end, by
    settle(), over some batches for the weights as they are.
    """

    k: int

    def __init__(self, n_inputs: int, n_latents: int, k: int, device: str = "cpu") -> None:
        super().__init__(n_inputs, n_latents, device)
        self.k = k
        self.register_buffer("threshold", torch.full((), -1.0, device=device))

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Keep the largest, or what is above the threshold."""
        if not self.training:
            return super().activate(pre_activations)
        positive = torch.relu(pre_activations)
        wanted = min(self.k * positive[..., 0].numel(), positive.numel())
        smallest = positive.detach().flatten().topk(wanted, sorted=False).values.min()
        self._remember(smallest)
        return positive * (positive >= smallest)

    @torch.no_grad()
    def active(self, x: Tensor) -> SparseLatents:
        """As for all; in training the k n largest of the n tokens together."""
        if not self.training:
            return super().active(x)
        likely, smallest = self._largest(x)
        self._remember(smallest)
        return likely.only(likely.values >= smallest)

    @torch.no_grad()
    def settle(self, rows: Tensor) -> None:
        """Set the threshold from rows [n, n_inputs], for the weights as they are."""
        batches = spread_batches(rows.to(self.threshold.device))
        smallest = [self._largest(batch)[1] for batch in batches]
        self.threshold.copy_(torch.stack(smallest).mean())

    def threshold_of(self, thresholds: Tensor) -> Tensor:
        """Return the one threshold that all latents have; ValueError where they differ."""
        if not bool((thresholds == thresholds[0]).all()):
            raise ValueError("a BatchTopKSae has one threshold for all latents")
        return thresholds[0].clone()

    def _largest(self, x: Tensor) -> tuple[SparseLatents, Tensor]:
        """Return at least the k n largest positive pre-activations of n tokens, and the smallest of those."""
        wanted = min(self.k * len(x), len(x) * self.nb_concepts)
        parts = chunks(x, self.nb_concepts)
        kept = [self.pre_activations(x)] if len(parts) == 1 else None
        # To sort all of a batch's latents takes several times as long as the rest of a step.
        for bound in self._bounds(x):
            likely = SparseLatents.joined(
                [SparseLatents.above(part, bound) for part in kept or map(self.pre_activations, parts)]
            )
            if len(likely.values) >= wanted:
                return likely, likely.values.topk(wanted, sorted=False).values.min()
        return likely, torch.zeros_like(self.threshold)

    def _bounds(self, x: Tensor) -> Iterator[Tensor]:
        """Give bounds that the k n largest pre-activations of n tokens may all be above; the last is 0."""
        if self.threshold > 0:
            yield _SURELY_BELOW * self.threshold
        some = self.pre_activations(x[:: math.ceil(len(x) / _TOKENS_TO_GUESS_FROM)])
        enough = min(2 * self.k * len(some), some.numel())
        guess = some.flatten().topk(enough, sorted=False).values.min()
        if guess > 0:
            yield guess
        yield torch.zeros_like(self.threshold)

    @torch.no_grad()
    def _remember(self, smallest: Tensor) -> None:
        first = self.threshold < 0
        blended = _THRESHOLD_MOMENTUM * self.threshold + (1 - _THRESHOLD_MOMENTUM) * smallest
        self.threshold.copy_(torch.where(first, smallest, blended))


class JumpReLUEngine(ThresholdEngine):
    """f keeps a positive pre-activation above its latent's own threshold.

    Rajamanoharan et al. 2024, Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU SAEs.
    ``threshold`` [n_latents] is a parameter: the steps at it get that paper's pseudo-derivatives, with a
    rectangle as the kernel. ``k`` is the mean number of active latents per token that training aims at.
    """

    threshold: nn.Parameter

    def __init__(self, n_inputs: int, n_latents: int, k: int | None = None, device: str = "cpu") -> None:
        super().__init__(n_inputs, n_latents, device)
        self.k = k
        self.threshold = nn.Parameter(torch.zeros(n_latents, device=device))

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Keep what is above, in training with a gradient for the thresholds."""
        if not self.training:
            return super().activate(pre_activations)
        thresholds = self.threshold.expand_as(pre_activations)
        latents: Tensor = _Jump.apply(pre_activations, thresholds)  # type: ignore[no-untyped-call]
        return latents

    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return those above their thresholds, and in training those that are near enough to move them."""
        if not self.training:
            return super().choose(pre_activations)
        return SparseLatents.above(pre_activations, self.threshold - BANDWIDTH / 2)

    def activate_at(self, pre_activations: Tensor, pattern: SparsityPattern) -> Tensor:
        """As for all, by each latent's own threshold."""
        latents: Tensor = _Jump.apply(pre_activations, self.threshold[pattern.neurons])  # type: ignore[no-untyped-call]
        return latents

    def l0(self, places: SparseLatents) -> Tensor:
        """Return the mean number of active latents per token, with a gradient for the thresholds alone."""
        pattern = places.pattern
        thresholds = self.threshold[pattern.neurons]
        steps: Tensor = _Step.apply(places.values.detach(), thresholds)  # type: ignore[no-untyped-call]
        return steps.sum() / pattern.n_rows

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """As for all, and thresholds above which k latents per token are active."""
        super().start(rows)
        if self.k is None:
            return
        some = spread_batches(rows)[0].to(self.threshold.device)
        positive = torch.relu(self.pre_activations(some))
        per_token = positive.topk(min(self.k + 1, positive.shape[1]), dim=1).values[:, -1]
        self.threshold.fill_(float(per_token.mean()))

    def penalty(self, output: ForwardOutput, dead: Tensor, variance: float) -> Tensor | float:
        """Return how far L0 is from k, and how far dead neurons are from their thresholds.

        Rajamanoharan et al. 2024 (Jumping Ahead) for the first; for the second, which brings thresholds down
        that nothing else reaches, Conerly et al. 2025 (Dictionary Learning Optimization Techniques,
        Transformer Circuits), "pre-act loss".
        """
        if self.k is None:
            return 0.0
        assert output.candidates is not None
        from_k = (self.l0(output.candidates) / self.k - 1).square()
        indices = dead.to(output.x_hat.device).nonzero().flatten()
        pre_activations = output.pre_activations(indices)
        below = torch.relu(self.threshold[indices] - pre_activations).sum() / len(pre_activations)
        return variance * (L0_WEIGHT * from_k + BELOW_THRESHOLD_WEIGHT * below)

    def fast_parameters(self) -> list[nn.Parameter]:
        """Return the thresholds: they have as far to go as latents are large."""
        return [self.threshold]

    @torch.no_grad()
    def after_step(self) -> None:
        """As for all, and put thresholds below 0 back to 0."""
        super().after_step()
        self.threshold.clamp_(min=0)


class _Jump(torch.autograd.Function):
    """JumpReLU(z) = z H(z - threshold) for z > 0, eq. 11 of the paper for the threshold's gradient.

    Trap: overcomplete's own divides by the bandwidth in its kernel and again in the derivative.
    """

    @staticmethod
    def forward(ctx: Any, pre_activations: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(pre_activations, threshold)
        return torch.relu(pre_activations) * (pre_activations > threshold)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        pre_activations, threshold = ctx.saved_tensors
        passes = (pre_activations > threshold) & (pre_activations > 0)
        slope = threshold * _near(pre_activations, threshold) * gradient
        return gradient * passes, -slope / BANDWIDTH


class _Step(torch.autograd.Function):
    """H(z - threshold), eq. 12 of the paper for the threshold's gradient."""

    @staticmethod
    def forward(ctx: Any, pre_activations: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(pre_activations, threshold)
        return ((pre_activations > threshold) & (pre_activations > 0)).to(pre_activations.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        pre_activations, threshold = ctx.saved_tensors
        return None, -(_near(pre_activations, threshold) * gradient) / BANDWIDTH


def _near(pre_activations: Tensor, threshold: Tensor) -> Tensor:
    return (pre_activations - threshold).abs() < BANDWIDTH / 2
