"""An SAE class of one's own: one matrix both encodes and decodes, and the k largest latents are kept.

z = top_k(relu((x - b) @ Wᵀ + e)), x̂ = z @ W + b. In Gao et al. 2024 (Scaling and evaluating sparse
autoencoders) encoder and decoder begin so and part; here they stay one, so there are half the weights.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae


class TiedEngine(nn.Module):
    """What is trained. The rows of ``weight`` [n_latents, n_inputs] are the dictionary."""

    def __init__(self, n_inputs: int, n_latents: int, k: int, device: str) -> None:
        super().__init__()
        self.k = k
        rows = torch.randn(n_latents, n_inputs, device=device)
        self.weight = nn.Parameter(nn.functional.normalize(rows, dim=1))
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents, device=device))
        self.input_bias = nn.Parameter(torch.zeros(n_inputs, device=device))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pre-activations and latents, both [n, n_latents], of x [n, n_inputs]."""
        pre_activations = (x - self.input_bias) @ self.weight.T + self.encoder_bias
        values, indices = torch.relu(pre_activations).topk(self.k, dim=-1)
        return pre_activations, torch.zeros_like(pre_activations).scatter(-1, indices, values)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the reconstruction [n, n_inputs] of latents [n, n_latents]."""
        return latents @ self.weight + self.input_bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pre-activations, latents and reconstruction: what the loss is computed of."""
        pre_activations, latents = self.encode(x)
        return pre_activations, latents, self.decode(latents)

    def get_dictionary(self) -> Tensor:
        """Return the decoder's rows [n_latents, n_inputs]."""
        return self.weight


class TiedTopKSae(L1Sae):
    """What is registered. L1Sae brings encode(), decode() and what makes it a hook of mi_crow."""

    sae_engine: TiedEngine

    def _initialize_sae_engine(self, k: int = 1) -> TiedEngine:
        """Make an untrained engine; the parameter k makes the server ask for k."""
        return TiedEngine(self.context.n_inputs, self.context.n_latents, k, self.context.device)

    def save(self, name: str, path: str | Path = ".") -> None:
        """Write <path>/<name>.pt: tensors and plain values alone, so that nothing has to be unpickled."""
        content = {
            "n_inputs": self.context.n_inputs,
            "n_latents": self.context.n_latents,
            "k": self.sae_engine.k,
            "engine": self.sae_engine.state_dict(),
        }
        torch.save(content, Path(path) / f"{name}.pt")

    @classmethod
    def load(cls, path: Path) -> "TiedTopKSae":
        """Read what save() wrote, onto the CPU."""
        content = torch.load(path, map_location="cpu", weights_only=True)
        sae = cls(n_latents=content["n_latents"], n_inputs=content["n_inputs"])
        sae.sae_engine = sae._initialize_sae_engine(k=content["k"])
        sae.sae_engine.load_state_dict(content["engine"])
        return sae
