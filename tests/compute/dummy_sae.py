"""The smallest SAE class that somebody could register: mi_crow's interface, a checkpoint of its own."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401

from mi_crow.mechanistic.sae.sae import Sae
from overcomplete.sae import SAE


class DummySae(Sae):
    """A plain ReLU SAE."""

    def _initialize_sae_engine(self) -> SAE:
        return SAE(self.context.n_inputs, self.context.n_latents, device=self.context.device)

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents [n, n_latents] of x [n, n_inputs]."""
        latents: Tensor = self.sae_engine.encode(x)[1]
        return latents

    def decode(self, x: Tensor) -> Tensor:
        """Return the reconstruction [n, n_inputs] of latents [n, n_latents]."""
        reconstruction: Tensor = self.sae_engine.decode(x)
        return reconstruction

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction of x."""
        return self.decode(self.encode(x))

    def save(self, name: str, path: str | Path = ".") -> None:
        """Write <path>/<name>.pt."""
        sizes = (self.context.n_latents, self.context.n_inputs)
        torch.save({"sizes": sizes, "engine": self.sae_engine.state_dict()}, Path(path) / f"{name}.pt")

    @staticmethod
    def load(path: Path) -> "DummySae":
        """Read what save() wrote."""
        stored = torch.load(path, map_location="cpu")
        sae = DummySae(*stored["sizes"])
        sae.sae_engine.load_state_dict(stored["engine"])
        return sae

    def process_activations(self, module: Any, input: Any, output: Any) -> None:
        """Do nothing."""

    def modify_activations(self, module: Any, inputs: Any, output: Any) -> None:
        """Do nothing."""
