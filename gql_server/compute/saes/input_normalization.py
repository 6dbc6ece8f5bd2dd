"""Normalizing each token's activations before an SAE encodes them, and restoring what it decodes.

formats/input_normalizations.py has the formulas and whose they are.
"""

import math

import torch
from torch import Tensor

from gql_server.formats.input_normalizations import InputNormalization

_EPSILON = 1e-5
"""OpenAI's and SAELens'; in the division alone, not in what restores."""


def normalized(how: InputNormalization, x: Tensor) -> Tensor:
    """Return activations [n, n_inputs] as the encoder gets them. Under RMS_NORM, zeros stay zeros."""
    if how == "LAYER_NORM":
        centered = x - x.mean(dim=-1, keepdim=True)
        return centered / (centered.std(dim=-1, keepdim=True) + _EPSILON)
    if how == "RMS_NORM":
        size = _root_mean_square(x)
        return x / torch.where(size == 0, 1.0, size)
    return x


def scaled(how: InputNormalization, changes: Tensor, x: Tensor) -> Tensor:
    """Return what changes [n, n_inputs] of the decoder's output are to the activations x [n, n_inputs].

    Times each token's own scale. A gradient for activations becomes one for the decoder's output likewise.
    """
    if how == "LAYER_NORM":
        return changes * x.std(dim=-1, keepdim=True)
    if how == "RMS_NORM":
        return changes * _root_mean_square(x)
    return changes


def restored(how: InputNormalization, decoded: Tensor, x: Tensor) -> Tensor:
    """Return the reconstructions [n, n_inputs] of x that the decoder's output [n, n_inputs] stands for."""
    found = scaled(how, decoded, x)
    return found + x.mean(dim=-1, keepdim=True) if how == "LAYER_NORM" else found


def _root_mean_square(x: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return lengths / math.sqrt(x.shape[-1])
