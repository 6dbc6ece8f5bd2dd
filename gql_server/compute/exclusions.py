"""Which tokens count of those that are neither padding nor special: one rule for all that has exclusions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gql_server.compute.training.metrics import float64
from gql_server.protocol.exclusions import Exclusions

DEFAULT_OUTLIERS = 10.0
"""Multiple of the median norm from which on figures call a token an outlier, where a request has none."""


def norms_of(activations: Tensor) -> Tensor:
    """Return the lengths of activations [n, n_inputs], float64 [n]."""
    norms: Tensor = torch.linalg.vector_norm(float64(activations), dim=-1)
    return norms


def token_mask(exclusions: Exclusions, positions: Tensor, activations: Tensor) -> Tensor:
    """Say which tokens count: bool [n], of positions in their texts [n] and activations [n, n_inputs].

    Tokens that are not finite count here; the caller decides what to do with them.
    """
    return (positions >= exclusions.first_positions) & not_outlying(exclusions, activations).to(
        positions.device
    )


def not_outlying(exclusions: Exclusions, activations: Tensor) -> Tensor:
    """Say which activations [n, n_inputs] are not longer than the limit, if there is one: bool [n]."""
    limit = exclusions.norm_limit
    if limit is None:
        return torch.ones(len(activations), dtype=torch.bool, device=activations.device)
    norms = norms_of(activations)
    return (norms <= limit) | ~norms.isfinite()


def positions_of(mask: Tensor, lengths: Sequence[int] | None) -> Tensor:
    """Return each place's position in its text, int64 of the shape of ``mask`` [n_texts, n_positions].

    Batches are padded right. Those of another program's that are padded left show it by tokens that count
    beyond their text's length, as far as that is known.
    """
    places = torch.arange(mask.shape[-1]).expand(mask.shape)
    if lengths is None or mask.ndim != 2:
        return places
    of_text = torch.tensor(lengths)[:, None]
    if not bool((mask & (places >= of_text)).any()):
        return places
    return places - (mask.shape[1] - of_text)
