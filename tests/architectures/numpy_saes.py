"""Saved SAEs in NumPy, read from their checkpoints by torch alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from tests.compute.evaluation_by_hand import NumpyAffineSae, NumpySae

NumpySaes = NumpySae | NumpyAffineSae


def of_checkpoint(path: Path, sae_class: str, k: int) -> NumpySaes:
    """Read what a training has saved."""
    if sae_class == "TopKSae":
        return NumpySae.of_checkpoint(path, k)
    content = torch.load(path, weights_only=True)
    engine = SimpleNamespace(
        state_dict=lambda: content["state_dict"], k=content["k"], subtracts_bias=content["subtracts_bias"]
    )
    return NumpyAffineSae(cast("Any", SimpleNamespace(sae_engine=engine)))


def move_threshold(path: Path) -> None:
    """Lower a BatchTopKSae's threshold a little, where one is.

    It is the smallest latent that some training batch has kept, so rounding decides on which side of it that
    token's latent is.
    """
    content = torch.load(path, weights_only=True)
    if "threshold" in content.get("state_dict", {}):
        content["state_dict"]["threshold"] *= 0.999
        torch.save(content, path)
