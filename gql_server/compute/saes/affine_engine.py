"""Engines of SAEs with a decoder bias: z = f(W_e (x - b_d) + b_e), x_hat = W_d z + b_d; four choices of f.

mi_crow's own engine has no decoder bias, so its dictionary spends latents on the activations' mean. The
architecture with one is Bricken et al. 2023 (Towards Monosemanticity); whether the encoder subtracts it is
SAELens' ``apply_b_dec_to_input``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gql_server.compute.saes.selection import strongest
from gql_server.compute.saes.sparse_latents import SparseLatents, SparsityPattern, chunks

BANDWIDTH = 0.1
"""How far from its threshold a latent still moves it, on scaled activations, whose inputs are of size 1.

The paper takes 0.001 of inputs whose vectors have length 1, for trainings of billions of tokens; so narrow a
window would move hardly a threshold in some hundred steps.
"""
_THRESHOLD_MOMENTUM = 0.9
_SURELY_BELOW = 0.8
"""Of the threshold that is remembered: a batch's own is hardly ever lower."""
_TOKENS_TO_GUESS_FROM = 64
"""Of a batch whose threshold is not known: a sixteenth of the work for a batch of 1,024."""


class AffineEngine(nn.Module, ABC):
    """What mi_crow and overcomplete's train_sae call an engine.

    Parameters: ``encoder_weight`` and ``decoder_weight`` [n_latents, n_inputs], ``encoder_bias`` [n_latents],
    ``decoder_bias`` [n_inputs]. The decoder's rows are the dictionary; training keeps them at length 1.
    """

    def __init__(self, n_inputs: int, n_latents: int, device: str = "cpu") -> None:
        super().__init__()
        self.nb_concepts = n_latents
        self.k: int | None = None
        self.subtracts_bias = True
        rows = nn.functional.normalize(torch.randn(n_latents, n_inputs, device=device), dim=1)
        self.encoder_weight = nn.Parameter(rows.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents, device=device))
        self.decoder_weight = nn.Parameter(rows)
        self.decoder_bias = nn.Parameter(torch.zeros(n_inputs, device=device))

    def pre_activations(self, x: Tensor) -> Tensor:
        """Return what the activation function gets, [n, n_latents], for x [n, n_inputs]."""
        centred = x - self.decoder_bias if self.subtracts_bias else x
        return nn.functional.linear(centred, self.encoder_weight, self.encoder_bias)

    @abstractmethod
    def activate(self, pre_activations: Tensor) -> Tensor:
        """Return the latents [n, n_latents], none of them negative."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pre-activations and latents, both [n, n_latents]."""
        pre_activations = self.pre_activations(x)
        return pre_activations, self.activate(pre_activations)

    @property
    def centre(self) -> Tensor | None:
        """What the encoder subtracts, [n_inputs]; None where it subtracts nothing."""
        return self.decoder_bias if self.subtracts_bias else None

    @torch.no_grad()
    def active(self, x: Tensor) -> SparseLatents:
        """Return where latents of x [n, n_inputs] may be other than 0, and the pre-activations there."""
        parts = [self.choose(self.pre_activations(rows)) for rows in chunks(x, self.nb_concepts)]
        return SparseLatents.joined(parts)

    @abstractmethod
    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return where latents may be other than 0 for pre-activations [n, n_latents], token by token."""

    def activate_at(self, pre_activations: Tensor, pattern: SparsityPattern) -> Tensor:
        """Return the latents [n_places] for the pre-activations at the places that active() gave."""
        return torch.relu(pre_activations)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the reconstruction [n, n_inputs] of latents [n, n_latents]."""
        return latents @ self.decoder_weight + self.decoder_bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pre-activations, latents and reconstruction."""
        pre_activations, latents = self.encode(x)
        return pre_activations, latents, self.decode(latents)

    def get_dictionary(self) -> Tensor:
        """Return the decoder's rows [n_latents, n_inputs]."""
        return self.decoder_weight

    @torch.no_grad()
    def scale_latents(self, factors: Tensor | float) -> None:
        """Multiply the latents with factors above 0 ([n_latents] or one), leaving the reconstruction."""
        factors = torch.as_tensor(factors, device=self.encoder_bias.device).expand(self.nb_concepts)
        self.encoder_weight.mul_(factors[:, None])
        self.encoder_bias.mul_(factors)
        self.decoder_weight.div_(factors[:, None])

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn an engine trained on ``scale * x`` into one for x, whose latents are those over ``scale``."""
        self.encoder_bias.div_(scale)
        self.decoder_bias.div_(scale)


class ReLUEngine(AffineEngine):
    """f = ReLU."""

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Return the positive part."""
        return torch.relu(pre_activations)

    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return the positive ones."""
        return SparseLatents.above(pre_activations, 0.0)


class TopKEngine(AffineEngine):
    """f keeps the k largest of each token's positive pre-activations (Gao et al. 2024)."""

    def __init__(self, n_inputs: int, n_latents: int, k: int, device: str = "cpu") -> None:
        super().__init__(n_inputs, n_latents, device)
        self.k: int = k

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Keep the largest; fewer than k where fewer are positive."""
        values, neurons = strongest(pre_activations, self.k)
        return torch.zeros_like(pre_activations).scatter(-1, neurons, torch.relu(values))

    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return the largest, where fewer than k are positive also some that are not."""
        values, neurons = strongest(pre_activations, self.k)
        return SparseLatents.of_each(values, neurons, self.nb_concepts)


class BatchTopKEngine(AffineEngine):
    """In training f keeps the k n largest of a batch of n tokens; then, those above one threshold.

    The threshold is the mean over batches of the smallest latent kept (Bussmann et al. 2024, BatchTopK Sparse
    Autoencoders): in training over recent ones, an estimate that lags behind the weights, and in the end, by
    settle(), over some batches for the weights as they are.
    """

    threshold: Tensor

    def __init__(self, n_inputs: int, n_latents: int, k: int, device: str = "cpu") -> None:
        super().__init__(n_inputs, n_latents, device)
        self.k: int = k
        self.register_buffer("threshold", torch.full((), -1.0, device=device))

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Keep the largest, or what is above the threshold."""
        positive = torch.relu(pre_activations)
        if not self.training:
            return positive * (positive > self.threshold)
        wanted = min(self.k * positive[..., 0].numel(), positive.numel())
        smallest = positive.detach().flatten().topk(wanted, sorted=False).values.min()
        self._remember(smallest)
        return positive * (positive >= smallest)

    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return those above the threshold."""
        return SparseLatents.above(pre_activations, self.threshold.clamp(min=0))

    @torch.no_grad()
    def active(self, x: Tensor) -> SparseLatents:
        """As for all; in training the k n largest of the n tokens together."""
        if not self.training:
            return super().active(x)
        likely, smallest = self._largest(x)
        self._remember(smallest)
        return likely.only(likely.values >= smallest)

    @torch.no_grad()
    def settle(self, batches: Sequence[Tensor]) -> None:
        """Set the threshold from batches [n, n_inputs], for the weights as they are."""
        smallest = [self._largest(batch)[1] for batch in batches]
        self.threshold.copy_(torch.stack(smallest).mean())

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

    @torch.no_grad()
    def scale_latents(self, factors: Tensor | float) -> None:
        """As for all; only one factor for all latents keeps one threshold right, others are a ValueError."""
        if torch.as_tensor(factors).numel() != 1:
            raise ValueError("latents with one threshold cannot be scaled each by itself")
        super().scale_latents(factors)
        self.threshold.mul_(factors)

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """As for all, and the threshold is one of latents."""
        super().fold_scale(scale)
        self.threshold.div_(scale)


class JumpReLUEngine(AffineEngine):
    """f keeps a positive pre-code above its latent's own threshold.

    Rajamanoharan et al. 2024, Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU SAEs.
    ``threshold`` [n_latents] is a parameter: the steps at it get that paper's pseudo-derivatives, with a
    rectangle as the kernel. ``k`` is the mean number of active latents per token that training aims at.
    """

    def __init__(self, n_inputs: int, n_latents: int, k: int | None = None, device: str = "cpu") -> None:
        super().__init__(n_inputs, n_latents, device)
        self.k = k
        self.threshold = nn.Parameter(torch.zeros(n_latents, device=device))

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Keep what is above."""
        if not self.training:
            return torch.relu(pre_activations) * (pre_activations > self.threshold)
        thresholds = self.threshold.expand_as(pre_activations)
        latents: Tensor = _Jump.apply(pre_activations, thresholds)  # type: ignore[no-untyped-call]
        return latents

    def choose(self, pre_activations: Tensor) -> SparseLatents:
        """Return those above their thresholds, and in training those that are near enough to move them."""
        if self.training:
            return SparseLatents.above(pre_activations, self.threshold - BANDWIDTH / 2)
        return SparseLatents.above(pre_activations, self.threshold.clamp(min=0))

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
    def scale_latents(self, factors: Tensor | float) -> None:
        """As for all; the thresholds go along."""
        super().scale_latents(factors)
        self.threshold.mul_(factors)

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """As for all; the thresholds go along."""
        super().fold_scale(scale)
        self.threshold.div_(scale)


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
