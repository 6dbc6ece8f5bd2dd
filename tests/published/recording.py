"""What the recorders write, each for the package whose environment it runs in."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.published.weights import N_INPUTS, inputs, tensor

RECORDED = Path(__file__).parent / "recorded"
SAID = "said.safetensors"
K = 6


def rows() -> Tensor:
    """Return inputs [30, n_inputs] in float32."""
    return tensor(inputs())


def skip() -> Tensor:
    """Return a skip connection [n_outputs, n_inputs], of no symmetry."""
    return torch.randn(N_INPUTS, N_INPUTS, generator=torch.Generator().manual_seed(7))


def record(directory: Path, latents: Tensor, reconstructions: Tensor) -> None:
    """Write down what a package computes of rows(): latents [30, 40], reconstructions [30, 16]."""
    said = {"inputs": rows(), "latents": latents.float(), "reconstructions": reconstructions.float()}
    save_file({name: tensor.detach().contiguous() for name, tensor in said.items()}, directory / SAID)
    print(f"{directory.relative_to(RECORDED)}: {float((latents != 0).float().sum(1).mean()):.1f} active")
