"""Forward passes that end at a layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gql_server.compute import mi_crow_compat  # noqa: F401

from mi_crow.language_model.language_model import LanguageModel


class _Stop(Exception):
    """Ends a forward pass."""


@contextmanager
def stopping_after(lm: LanguageModel, layer: str) -> Iterator[None]:
    """Run one forward pass in the block; it ends, and the block with it, when the layer's hooks have run."""

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        raise _Stop

    handle = lm.layers.register_forward_hook_for_layer(layer, stop)
    try:
        yield
    except _Stop:
        pass
    finally:
        handle.remove()


def model_device(lm: LanguageModel) -> torch.device:
    """Return where the model's weights are."""
    device: torch.device = next(lm.model.parameters()).device
    return device
