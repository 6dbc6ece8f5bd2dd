"""The output tokens that each neuron raises and lowers most, by direct effect on the logits.

A neuron that fires adds its latent times its decoder direction d to the residual stream, and what is added
stays in it up to the final norm. The direct effect on the logits is what that does if nothing in between
reacts to it: ``scale * weight (gain * centered(d)) / size(x)`` per unit of the latent (unembedding.py has the
words), where size(x) belongs to the token at hand. Leaving size(x) out gives one number per neuron and token;
it is one positive factor for all, so order and proportion are those at any token.

Sources: nostalgebraist 2020 (interpreting GPT: the logit lens); Elhage et al. 2021 (A Mathematical Framework
for Transformer Circuits: the residual stream, direct paths, norms folded into the unembedding); Bricken et
al. 2023 (Towards Monosemanticity: a feature's logit weights).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gql_server.compute.indexing.strongest_columns import strongest_columns
from gql_server.compute.language_models.unembedding import Unembedding
from gql_server.compute.saes.decoder_directions import MAX_DENSE_VALUES
from gql_server.compute.saes.encoding import all_finite
from gql_server.compute.worker.context import TaskError
from gql_server.compute.worker.stages import Tell

TOKENS_KEPT = 50
EFFECT_BINS = 64
_NOT_FINITE = "The SAE's decoder directions are so long that their effects on the logits are not finite."


def direct_effects(directions: Tensor, unembedding: Unembedding, tell: Tell) -> dict[str, Tensor]:
    """Return the tokens that directions [n_latents, n_inputs] raise and lower most, strongest first.

    And a histogram of each one's effects on all tokens: ``effect_counts`` in 64 equal bins between the two
    ``effect_limits``, the lowest and the highest effect.

    Of equal effects the lower token id comes first; entries without an effect of the right sign are -1 and 0.
    ``tell`` is called between chunks. Raises NoUnembedding where the directions are of another width, and
    TaskError where an effect is not finite.
    """
    weight = unembedding.weight
    seen = unembedding.seen(directions)
    rows = max(1, MAX_DENSE_VALUES // len(weight))
    parts: list[tuple[Tensor, ...]] = []
    for start in range(0, len(seen), rows):
        tell(start, len(seen))
        with torch.inference_mode():
            effects = _logits(seen[start : start + rows], weight)
            if not all_finite(effects):
                raise TaskError(_NOT_FINITE)
            counts, limits = effect_histograms(effects)
            promoted = strongest_columns(effects, TOKENS_KEPT, above=0.0)
            suppressed = strongest_columns(effects.neg_(), TOKENS_KEPT, above=0.0)
            parts.append((promoted[0], promoted[1], suppressed[0], -suppressed[1], counts, limits))
    of_tokens = ("promoted_tokens", "promoted_effects", "suppressed_tokens", "suppressed_effects")
    names = (*of_tokens, "effect_counts", "effect_limits")
    columns = [torch.cat(column).cpu().contiguous() for column in zip(*parts, strict=True)]
    return dict(zip(names, columns, strict=True))


def effect_histograms(effects: Tensor) -> tuple[Tensor, Tensor]:
    """Return counts int32 [n, 64] of effects [n, n_tokens], and each row's lowest and highest, [n, 2].

    Bins are of equal width; the highest effect is in the last one. Where all effects are equal, or so close
    that float32 has no such width, they are in the first.
    """
    if effects.device.type == "cpu":
        # Row by row, which the processor's cache has room for: many times as fast.
        space = np.empty(effects.shape[1], np.float32), np.empty(effects.shape[1], np.uint8)
        with np.errstate(divide="ignore", over="ignore"):
            rows, ends = zip(*(_histogram(row, *space) for row in effects.numpy()), strict=True)
        return torch.from_numpy(np.stack(rows)).int(), torch.tensor(ends, dtype=torch.float32)
    low, high = effects.aminmax(dim=1, keepdim=True)
    scales = 1 / ((high / 2 - low / 2) / (EFFECT_BINS / 2))
    scales[~scales.isfinite()] = 0.0
    bins = (effects * scales - low * scales).clamp_(0, EFFECT_BINS - 1).long()
    places = bins + torch.arange(len(bins), device=bins.device)[:, None] * EFFECT_BINS
    counts = torch.bincount(places.flatten(), minlength=len(bins) * EFFECT_BINS)
    return counts.view(len(bins), -1).int(), torch.cat([low, high], dim=1)


def _histogram(
    row: NDArray[np.float32], scaled: NDArray[np.float32], bins: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], tuple[float, float]]:
    """Return one row's counts, and its lowest and highest effect; the other arrays are written to."""
    low, high = row.min(), row.max()
    # Halves first: the width of what is finite may not be.
    scale = np.float32(1 / ((high / 2 - low / 2) / (EFFECT_BINS / 2)))
    scale = scale if np.isfinite(scale) else np.float32(0.0)
    np.multiply(row, scale, out=scaled)
    np.subtract(scaled, low * scale, out=scaled)
    np.minimum(np.maximum(scaled, 0, out=scaled), EFFECT_BINS - 1, out=scaled)
    np.copyto(bins, scaled, casting="unsafe")  # The whole parts.
    return np.bincount(bins, minlength=EFFECT_BINS), (float(low), float(high))


def _logits(seen: Tensor, weight: Tensor) -> Tensor:
    """Return seen [n, width] times the weight, float32 [n, n_tokens], whatever the weight's precision."""
    if weight.dtype == torch.float32:
        return seen @ weight.T
    rows = max(1, MAX_DENSE_VALUES // weight.shape[1])
    logits = torch.empty(len(seen), len(weight), device=weight.device)
    for start in range(0, len(weight), rows):
        logits[:, start : start + rows] = seen @ weight[start : start + rows].float().T
    return logits
