"""Keys of the stretches that are shown around tokens: equal stretches have equal keys, others hardly ever."""

from collections.abc import Iterable

import torch
from torch import Tensor

TOKENS_AROUND = 16
WINDOW = 2 * TOKENS_AROUND + 1
_FACTORS = torch.randint(-(2**63), 2**63 - 1, (WINDOW,), generator=torch.Generator().manual_seed(0))


def stretch_keys(token_ids: Tensor, lengths: Tensor) -> Tensor:
    """Return the key of each token's stretch, int64 [n_tokens], text by text, without padding.

    A stretch is the token with up to 16 tokens on each side of it, wherever the token stands in it, so all
    tokens of a short text may have one stretch. ``token_ids`` [n_texts, n_positions] are padded at the right,
    ``lengths`` [n_texts].
    """
    n_texts, n_positions = token_ids.shape
    real = torch.arange(n_positions) < lengths[:, None]
    # Padding adds nothing, any token something.
    numbers = torch.zeros(n_texts, n_positions + WINDOW, dtype=torch.int64)
    numbers[:, :n_positions] = (token_ids + 1) * real
    keys = torch.zeros(n_texts, n_positions, dtype=torch.int64)
    for place, factor in enumerate(_FACTORS.tolist()):
        keys += numbers[:, place : place + n_positions] * factor
    # Near the beginning a stretch is shorter: it begins with the text.
    beginnings = (numbers[:, :WINDOW] * _FACTORS).cumsum(dim=1)[:, TOKENS_AROUND:-1]
    return torch.cat([beginnings, keys], dim=1)[:, :n_positions][real]


def first_of_each(strengths: Tensor, stretches: Tensor) -> Tensor:
    """Return strength keys with 0 for all but the largest of each stretch, row by row: [n, m] all three."""
    order = strengths.argsort(dim=1, descending=True, stable=True)
    ordered = stretches.gather(1, order)
    by_stretch = ordered.argsort(dim=1, stable=True)
    grouped = ordered.gather(1, by_stretch)
    again = torch.zeros_like(grouped, dtype=torch.bool)
    again[:, 1:] = grouped[:, 1:] == grouped[:, :-1]
    places = order.gather(1, by_stretch)
    return strengths.scatter(1, places, strengths.gather(1, places).masked_fill(again, 0))


def count_texts(stretches: Tensor, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return in how many texts each stretch stands, int32 of the keys' shape.

    ``batches`` are the token ids and lengths of the texts, as ``stretch_keys`` takes them.
    """
    wanted, inverse = stretches.unique(return_inverse=True)
    counts = torch.zeros(len(wanted), dtype=torch.int64)
    for token_ids, lengths in batches:
        keys = stretch_keys(token_ids, lengths)
        texts = torch.arange(len(lengths)).repeat_interleave(lengths)
        places = torch.searchsorted(wanted, keys).clamp(max=len(wanted) - 1)
        found = wanted[places] == keys
        once = (texts[found] * len(wanted) + places[found]).unique()
        counts += torch.bincount(once % len(wanted), minlength=len(wanted))
    return counts[inverse].int()
