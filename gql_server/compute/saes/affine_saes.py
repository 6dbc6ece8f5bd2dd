"""SAE classes with a decoder bias, on mi_crow's interface; their engines compute."""

from pathlib import Path
from typing import Any, Self, cast

import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.affine_engine import AffineEngine, ReLUEngine, TopKEngine
from gql_server.compute.saes.gated_engine import GatedEngine
from gql_server.compute.saes.threshold_engines import BatchTopKEngine, JumpReLUEngine

from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae


class AffineSae(L1Sae):
    """What they have in common; L1Sae brings what makes an SAE one of mi_crow's hooks.

    A checkpoint is made of tensors and plain values alone.
    """

    sae_engine: AffineEngine

    def save(self, name: str, path: str | Path | None = None) -> None:
        """Write ``<path>/<name>.pt``."""
        engine = self.sae_engine
        content = {
            "sae_class": type(self).__name__,
            "n_inputs": self.context.n_inputs,
            "n_latents": self.context.n_latents,
            "k": engine.k,
            "subtracts_bias": engine.subtracts_bias,
            "state_dict": engine.state_dict(),
        }
        if engine.input_normalization != "NONE":
            content["input_normalization"] = engine.input_normalization
        directory = Path.cwd() if path is None else Path(path)
        directory.mkdir(parents=True, exist_ok=True)
        torch.save(content, directory / f"{name}.pt")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what save() wrote, onto the CPU, ready to encode; ValueError where another class wrote it."""
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["sae_class"] != cls.__name__:
            raise ValueError(f"the checkpoint is one of {content['sae_class']}, not of {cls.__name__}")
        sae = cls(n_latents=content["n_latents"], n_inputs=content["n_inputs"])
        if content["k"] is not None:
            sae.sae_engine = cast("Any", sae)._initialize_sae_engine(k=content["k"])
        sae.sae_engine.subtracts_bias = content["subtracts_bias"]
        sae.sae_engine.input_normalization = content.get("input_normalization", "NONE")
        state = content["state_dict"]
        sae.sae_engine.write(len(state["decoder_bias"]), has_skip="skip_weight" in state)
        sae.sae_engine.load_state_dict(state)
        # In training mode BatchTopKSae would encode by batches, and change its threshold.
        sae.sae_engine.eval()
        return sae


class ReLUSae(AffineSae):
    """ReLU latents, kept sparse in training by their L1 norm (SAELens: "standard")."""

    def _initialize_sae_engine(self) -> AffineEngine:
        return ReLUEngine(self.context.n_inputs, self.context.n_latents, self.context.device)


class BiasedTopKSae(AffineSae):
    """The k largest latents of each token: TopKSae with a decoder bias (SAELens: "topk")."""

    def _initialize_sae_engine(self, k: int = 1) -> AffineEngine:
        return TopKEngine(self.context.n_inputs, self.context.n_latents, k, self.context.device)


class BatchTopKSae(AffineSae):
    """k latents per token on average, in training by batches, afterwards by one threshold."""

    def _initialize_sae_engine(self, k: int = 1) -> AffineEngine:
        return BatchTopKEngine(self.context.n_inputs, self.context.n_latents, k, self.context.device)


class JumpReLUSae(AffineSae):
    """Latents above thresholds of their own (SAELens: "jumprelu"); training aims at k of them per token."""

    def _initialize_sae_engine(self, k: int | None = None) -> AffineEngine:
        return JumpReLUEngine(self.context.n_inputs, self.context.n_latents, k, self.context.device)


class GatedSae(AffineSae):
    """Latents whose size and whether they are active are told apart (SAELens: "gated")."""

    def _initialize_sae_engine(self) -> AffineEngine:
        return GatedEngine(self.context.n_inputs, self.context.n_latents, self.context.device)
