"""What the recorders write, each for the package whose environment it runs in."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.published.weights import Array, inputs

RECORDED = Path(__file__).parent / "recorded"
SAID = "said.safetensors"
K = 6


def rows() -> Tensor:
    """Return inputs [30, n_inputs] in float32."""
    return float32(inputs())


def float32(values: Array) -> Tensor:
    """Return an array in float32."""
    return torch.tensor(values, dtype=torch.float32)


def record(directory: Path, latents: Tensor, reconstructions: Tensor) -> None:
    """Write down what a package computes of rows(): latents [30, 40], reconstructions [30, 16]."""
    said = {"inputs": rows(), "latents": latents.float(), "reconstructions": reconstructions.float()}
    save_file({name: tensor.detach().contiguous() for name, tensor in said.items()}, directory / SAID)
    print(f"{directory.relative_to(RECORDED)}: {float((latents != 0).float().sum(1).mean()):.1f} active")
