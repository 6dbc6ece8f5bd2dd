"""What engines start from: rows of a run, and how long an encoder should be."""

import math

import torch
from torch import Tensor

_ROWS_PER_BATCH = 1024


def spread_batches(rows: Tensor) -> list[Tensor]:
    """Cut rows into batches of at most 1,024, each from all over them: they come text by text."""
    n_batches = math.ceil(len(rows) / _ROWS_PER_BATCH)
    return [rows[first::n_batches] for first in range(n_batches)]


def first_factor(centered: Tensor, pre_activations: Tensor, dictionary: Tensor, k: int | None) -> float:
    """Return what to multiply the encoder with for the least squared error of k latents per token, or of all.

    A regression through the origin: sum(x x_hat) / sum(x_hat²), for x = centered [n, n_inputs].
    ``pre_activations`` [n, n_latents] are linear in the encoder; dictionary [n_latents, n_inputs].
    """
    latents = torch.relu(pre_activations)
    if k is not None:
        values, indices = latents.topk(k, dim=1, sorted=False)
        latents = torch.zeros_like(latents).scatter(1, indices, values)
    x_hat = latents @ dictionary
    factor = float((centered * x_hat).sum() / x_hat.square().sum())
    return factor if math.isfinite(factor) and factor > 0 else 1.0
