"""Putting together what transformers' own caches keep of texts that have begun apart."""

from typing import Any

from torch import Tensor, cat as concatenate, nn
from transformers import DynamicCache
from transformers.cache_utils import (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

_KNOWN = {
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
}
"""Kinds of layers all of whose parts are dealt with here."""


def can_be_joined(cache: DynamicCache) -> bool:
    """Say whether a cache's layers are of known kinds."""
    return all(type(layer) in _KNOWN for layer in cache.layers)


def join(cache: DynamicCache, other: DynamicCache) -> None:
    """Add the texts of another cache of the same model, in both padded left to one length.

    What goes wrong, such as want of memory, leaves the cache as it was.
    """
    undo = [_Undo(layer) for layer in cache.layers]
    try:
        for own, others in zip(cache.layers, other.layers, strict=True):
            if isinstance(own, LinearAttentionLayer) and isinstance(others, LinearAttentionLayer):
                _join_states(own, others)
            if isinstance(own, DynamicLayer) and isinstance(others, DynamicLayer):
                _join_keys(own, others)
    except BaseException:
        for one in undo:
            one.restore()
        raise


class _Undo:
    """Takes out of a layer what joining has added to it: a copy would take as much memory again."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._keys = _shape(getattr(layer, "keys", None))
        self._cumulative = getattr(layer, "cumulative_length", None)
        self._states = [
            (name, number, len(state))
            for name in ("conv_states", "recurrent_states")
            for number, state in getattr(layer, name, {}).items()
            if state is not None
        ]

    def restore(self) -> None:
        layer = self._layer
        if self._keys is not None:
            n_texts, n_positions = self._keys
            layer.keys = layer.keys[:n_texts, :, layer.keys.shape[-2] - n_positions :]
            layer.values = layer.values[:n_texts, :, layer.values.shape[-2] - n_positions :]
        if self._cumulative is not None:
            layer.cumulative_length = self._cumulative
        for name, number, n_texts in self._states:
            states = getattr(layer, name)
            states[number] = states[number][:n_texts]


def _shape(keys: Tensor | None) -> tuple[int, int] | None:
    return None if keys is None else (keys.shape[0], keys.shape[-2])


def _join_states(own: LinearAttentionLayer, others: LinearAttentionLayer) -> None:
    for states, more in (
        (own.conv_states, others.conv_states),
        (own.recurrent_states, others.recurrent_states),
    ):
        for number, state in states.items():
            other = more[number]
            if state is not None and other is not None:
                states[number] = concatenate([state, other])


def _join_keys(own: DynamicLayer, others: DynamicLayer) -> None:
    if own.keys is None or own.values is None or others.keys is None or others.values is None:
        return  # Of a layer that uses another one's.
    width = max(own.keys.shape[-2], others.keys.shape[-2])
    own.keys = concatenate([_padded(own.keys, width), _padded(others.keys, width)])
    own.values = concatenate([_padded(own.values, width), _padded(others.values, width)])
    if isinstance(own, DynamicSlidingWindowLayer):
        own.cumulative_length = max(own.cumulative_length, others.cumulative_length)


def _padded(keys: Tensor, width: int) -> Tensor:
    """Return keys or values [n_texts, n_heads, n_positions, width of a head] with zeros before them."""
    padded: Tensor = nn.functional.pad(keys, (0, 0, width - keys.shape[-2], 0))
    return padded


def cut(cache: DynamicCache, n_positions: int) -> None:
    """Leave out the first positions of all texts."""
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
            continue
        kept = layer.keys.shape[-2] - n_positions
        if isinstance(layer, DynamicSlidingWindowLayer):
            # It has let go of what lies before its window.
            layer.cumulative_length -= n_positions
            kept = min(layer.cumulative_length, layer.keys.shape[-2])
        layer.keys, layer.values = layer.keys[..., -kept:, :], layer.values[..., -kept:, :]
