"""Weights and inputs of tiny SAEs, chosen for what implementations do differently.

Imported by the recorders, too, in environments that have torch and none of this project's other packages.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
N_INPUTS, N_LATENTS = 16, 40


@dataclass(frozen=True)
class Weights:
    """Weights that bfloat16 holds exactly: matrices [n_latents, n_inputs], rows of any length."""

    encoder: Array
    encoder_bias: Array
    decoder: Array
    decoder_bias: Array
    threshold: Array


def weights(seed: int = 0, *, subtracted: bool = False, scale: float = 1.0, at: float = 0.5) -> Weights:
    """Make weights whose latent 0 is at its threshold for all inputs().

    Args:
        seed: Which ones.
        subtracted: Whether the decoder bias is subtracted from the inputs before.
        scale: By what the inputs are multiplied before; a power of 2.
        at: That threshold.
    """
    choose = np.random.default_rng(seed)
    encoder = choose.normal(size=(N_LATENTS, N_INPUTS))
    decoder = choose.normal(size=(N_LATENTS, N_INPUTS))
    decoder_bias = choose.normal(size=N_INPUTS) + 0.5
    threshold = np.abs(choose.normal(size=N_LATENTS))
    encoder_bias = choose.normal(size=N_LATENTS) - 8
    encoder[0], decoder[0], decoder_bias[0], encoder_bias[0], threshold[0] = 0, 0, 0.5, 0, at
    # Input 0 is 1 for all rows, and half of that where the bias is subtracted.
    encoder[0, 0] = at / (0.5 if subtracted else scale)
    decoder[0, 1] = 1
    return Weights(*map(rounded, (encoder, encoder_bias, decoder, decoder_bias, threshold)))


def rounded(values: Array) -> Array:
    """Round to values that bfloat16 has."""
    return torch.tensor(values).bfloat16().double().numpy()


def inputs(seed: int = 1) -> Array:
    """Make inputs [30, n_inputs] that float32 holds exactly, whose input 0 is 1; the first rows are short."""
    rows = np.random.default_rng(seed).normal(size=(30, N_INPUTS)) + 0.2
    rows = rounded(rows * np.linspace(0.05, 3, len(rows))[:, None])
    rows[:, 0] = 1
    return rows


def tensor(values: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor of float32 or another type."""
    return torch.tensor(np.asarray(values)).to(dtype).contiguous()


def tensors(dtype: torch.dtype = torch.float32, **values: Any) -> dict[str, Tensor]:
    """Return tensors by name; of "encoder__weight" the name is "encoder.weight"."""
    return {name.replace("__", "."): tensor(value, dtype) for name, value in values.items()}
