"""What a training does for an SAE beside gradient steps: how the engine starts, is kept and ends."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.affine_engine import AffineEngine, BatchTopKEngine, JumpReLUEngine
from gql_server.compute.saes.linear_engine import fold_scale, has_linear_engine, initialise
from gql_server.compute.saes.starting import first_factor, spread_batches
from gql_server.compute.training.forward import ForwardOutput, some_rows

from mi_crow.mechanistic.sae.sae import Sae

FAST = 10.0
AUXILIARY_WEIGHT = 1 / 128
"""Gao et al. 2024 have 1/32, which costs explained variance where there are many neurons.

TopKSae, 16,384 neurons, 368 steps of 1,024 on 47,371 tokens of SmolLM2's layer 9; explained variance on
held-out tokens, dead share on the training's: 0.908 with 1.2 % at 1/32, 0.911 with 3.7 % at 1/128, 0.912 with
4.5 % at 1/256.
"""
REVIVED_AMONG = 4
"""Candidate pool for the auxiliary loss, as a multiple of the dead neurons used per token.

With 2 a BatchTopKSae of 16,384 neurons came to an explained variance of 0.896 on held-out tokens instead of
0.900, with 8 % dead instead of 6 % (376 steps of 1,024 tokens of SmolLM2's layer 9); with 4 as with all.
"""
L0_WEIGHT = 1.0
"""Of (L0 / k - 1)², in units of the activations' variance per input, as the next is."""
BELOW_THRESHOLD_WEIGHT = 3e-4


class TrainingStrategy:
    """For a class of somebody else's: nothing. ``scale`` is what the activations are multiplied with."""

    revives = False
    """Whether dead neurons get a loss of their own."""

    def __init__(self, sae: Sae) -> None:
        self.sae = sae
        self.scale = 1.0

    def start(self, rows: Tensor) -> None:
        """Set the engine up from some unscaled rows [n, n_inputs] of the run, and choose the scale."""

    def penalty(self, output: ForwardOutput, dead: Tensor) -> Tensor | float:
        """Return what the loss of a forward pass grows by, beside mi_crow's own terms.

        ``dead`` [n_latents], bool, is true for neurons that have not fired for long.
        """
        return 0.0

    def fast_parameters(self) -> list[nn.Parameter]:
        """Return the parameters whose learning rate is FAST times that of the others."""
        return []

    def after_step(self) -> None:
        """Keep the engine as it has to be, after each step."""

    def finish(self) -> None:
        """Turn the engine into one for activations as they are."""


class LinearStrategy(TrainingStrategy):
    """For mi_crow's own classes: linear_engine.py says what and why."""

    revives = True

    def start(self, rows: Tensor) -> None:
        """Scale, and start encoder and dictionary as each other's transposes, around the rows' mean."""
        self.scale = activation_scale(rows)
        initialise(self.sae, rows * self.scale)

    def finish(self) -> None:
        """Fold the scale into the bias."""
        fold_scale(self.sae, self.scale)


class AffineStrategy(TrainingStrategy):
    """For engines with a decoder bias.

    The bias starts as the activations' mean, so that latents describe how tokens differ: with it 0 % of 4,096
    neurons were dead after 188 steps on SmolLM2's layer 9, without it 33 %, and explained variance on
    held-out tokens was 0.871 against 0.857. Bricken et al. 2023 start it as the geometric median, which a few
    far tokens move less. The encoder starts as the decoder's transpose (Gao et al. 2024), as long as makes
    the first error smallest: k directions overlap the more, the fewer inputs there are. The dictionary's
    rows are put back to length 1 after each step.
    """

    revives = True
    engine: AffineEngine

    def __init__(self, sae: Sae) -> None:
        super().__init__(sae)
        self.engine = sae.sae_engine
        self._variance = 1.0
        self._sample = torch.empty(0)

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Scale, and start the decoder bias in the middle of the rows."""
        self.scale = activation_scale(rows)
        rows = (rows * self.scale).to(self.engine.decoder_bias.device)
        self._variance = float(rows.var(dim=0, correction=0).mean())
        self._sample = rows
        self.engine.decoder_bias.copy_(rows.mean(dim=0))
        some = spread_batches(rows)[0]
        centred, engine = some - self.engine.decoder_bias, self.engine
        pre_activations = engine.pre_activations(some)
        engine.encoder_weight.mul_(first_factor(centred, pre_activations, engine.decoder_weight, engine.k))
        if isinstance(self.engine, JumpReLUEngine):
            self.engine.threshold.fill_(_threshold_for(self.engine, rows))

    def penalty(self, output: ForwardOutput, dead: Tensor) -> Tensor | float:
        """Return, for JumpReLU, how far L0 is from k, and how far dead neurons are from their thresholds.

        Rajamanoharan et al. 2024 (Jumping Ahead) for the first; for the second, which brings thresholds down
        that nothing else reaches, Conerly et al. 2025 (Dictionary Learning Optimization Techniques,
        Transformer Circuits), "pre-act loss".
        """
        if not isinstance(self.engine, JumpReLUEngine) or self.engine.k is None:
            return 0.0
        assert output.places is not None
        from_k = (self.engine.l0(output.places) / self.engine.k - 1).square()
        indices = dead.to(output.x_hat.device).nonzero().flatten()
        pre_activations = output.pre_activations(indices)
        below = torch.relu(self.engine.threshold[indices] - pre_activations).sum() / len(pre_activations)
        return self._variance * (L0_WEIGHT * from_k + BELOW_THRESHOLD_WEIGHT * below)

    def fast_parameters(self) -> list[nn.Parameter]:
        """Return the thresholds: they have as far to go as latents are large."""
        return [self.engine.threshold] if isinstance(self.engine, JumpReLUEngine) else []

    @torch.no_grad()
    def after_step(self) -> None:
        """Put the dictionary's rows back to length 1, and thresholds above 0."""
        rows = self.engine.decoder_weight
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=1e-12))
        if isinstance(self.engine, JumpReLUEngine):
            self.engine.threshold.clamp_(min=0)

    def finish(self) -> None:
        """Settle BatchTopK's threshold, and fold the scale into biases and thresholds."""
        if isinstance(self.engine, BatchTopKEngine):
            self.engine.settle(spread_batches(self._sample))
        self.engine.fold_scale(self.scale)


def strategy_for(sae: Sae) -> TrainingStrategy:
    """Return the recipe for an SAE's engine."""
    if isinstance(sae.sae_engine, AffineEngine):
        return AffineStrategy(sae)
    return LinearStrategy(sae) if has_linear_engine(sae) else TrainingStrategy(sae)


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
    from firing. With positive ones alone 4.0 % of BiasedTopKSae's neurons ended dead instead of 0.3 % (4,096
    neurons, 368 steps on 47,371 tokens of SmolLM2's layer 9), at the same explained variance.

    Of more dead ones than REVIVED_AMONG times as many as take part, a step looks at so many, drawn anew: all
    of 16,384 neurons that have hardly begun to fire take longer than the rest of the step.
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


def _threshold_for(engine: JumpReLUEngine, rows: Tensor) -> float:
    """Return the threshold above which k latents per token are active, for an engine that has just begun."""
    if engine.k is None:
        return 0.0
    positive = torch.relu(engine.pre_activations(spread_batches(rows)[0]))
    per_token = positive.topk(min(engine.k + 1, positive.shape[1]), dim=1).values[:, -1]
    return float(per_token.mean())
