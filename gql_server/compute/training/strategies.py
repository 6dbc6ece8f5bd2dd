"""What a training does for an SAE beside gradient steps, by its engine: scale, start, penalty, finish."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.engine import ForwardOutput
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.training.forward import some_rows

from mi_crow.mechanistic.sae.sae import Sae

FAST = 10.0
"""Factor between the learning rate of an engine's fast parameters and that of the others."""
AUXILIARY_WEIGHT = 1 / 128
"""Weight of the auxiliary loss, in place of the 1/32 of Gao et al. 2024: docs/training.md says why."""
REVIVED_AMONG = 4
"""Candidate pool for the auxiliary loss, as a multiple of the dead neurons used per token."""


class TrainingStrategy:
    """Trains an SAE with what its Engine asks for; without an Engine by gradient steps alone.

    ``scale`` is what the activations are multiplied with.
    """

    def __init__(self, sae: Sae) -> None:
        self.sae = sae
        self.scale = 1.0
        self._engine = engine_of(sae)
        self._rows = torch.empty(0)
        self._variance = 1.0

    @property
    def revives(self) -> bool:
        """Whether dead neurons get a loss of their own."""
        return self._engine is not None

    def start(self, rows: Tensor) -> None:
        """Choose the scale, and start the engine, from some unscaled rows [n, n_inputs] of the run."""
        if self._engine is not None:
            self.scale = activation_scale(rows)
            # Where the engine computes: statistics of another device differ in their last bits.
            self._rows = (rows * self.scale).to(self._engine.encoder_weight.device)
            self._variance = float(self._rows.var(dim=0, correction=0).mean())
            self._engine.start(self._rows)

    def penalty(self, output: ForwardOutput, dead: Tensor) -> Tensor | float:
        """Return what the loss of a forward pass grows by, beside mi_crow's own terms.

        ``dead`` [n_latents], bool, is true for neurons that have not fired for long.
        """
        return 0.0 if self._engine is None else self._engine.penalty(output, dead, self._variance)

    def fast_parameters(self) -> list[nn.Parameter]:
        """Return the parameters whose learning rate is FAST times that of the others."""
        return [] if self._engine is None else self._engine.fast_parameters()

    def after_step(self) -> None:
        """Restore after a step what the engine keeps."""
        if self._engine is not None:
            self._engine.after_step()

    def finish(self) -> None:
        """Settle the engine, and fold the scale into its weights."""
        if self._engine is not None:
            self._engine.settle(self._rows)
            self._engine.fold_scale(self.scale)


def activation_scale(rows: Tensor) -> float:
    """Return the power of two that brings the median length of rows [n, n_inputs] nearest to sqrt(n_inputs).

    Activations can be of any size, while a learning rate and a penalty suit one size. The median, because a
    few tokens (a text's first) can be a hundred times as long as the others. A power of two, because scaling
    and folding are exact in floating point then.
    """
    median = float(rows.norm(dim=1).median())
    if not (math.isfinite(median) and median > 0):
        return 1.0
    exponent = round(math.log2(math.sqrt(rows.shape[1]) / median))
    return float(2.0 ** max(-60, min(60, exponent)))


def auxiliary_loss(x: Tensor, output: ForwardOutput, dead: Tensor) -> Tensor:
    """Return the loss that brings dead neurons back: AuxK of Gao et al. 2024, appendix A.2.

    The dead ones with the largest pre-activations, half as many as inputs, reconstruct what the others leave
    of x: mean((e - e_hat)²), e = x - x_hat, times AUXILIARY_WEIGHT; less where there are fewer dead ones.
    ``output`` is the forward pass of x [n, n_inputs], ``dead`` bool [n_latents].

    Pre-activations below 0 take part, though no latent will ever be: they bring back neurons that are far
    from firing. With more than REVIVED_AMONG times the dead neurons that take part, a step draws that many
    of them: all 16,384 neurons of an SAE that has hardly begun to fire take longer than the rest of the step.
    """
    wanted = max(1, x.shape[1] // 2)
    indices = dead.to(x.device).nonzero().flatten()
    if len(indices) > REVIVED_AMONG * wanted:
        indices = indices[torch.randperm(len(indices), device=x.device)[: REVIVED_AMONG * wanted]]
    k = min(wanted, len(indices))
    latents = output.pre_activations(indices)
    if k < len(indices):
        values, places = latents.topk(k, dim=1, sorted=False)
        latents = torch.zeros_like(latents).scatter(1, places, values)
    error = (x - output.x_hat).detach()
    loss: Tensor = mse_loss(latents @ some_rows(output.dictionary, indices), error)
    return AUXILIARY_WEIGHT * k / wanted * loss
