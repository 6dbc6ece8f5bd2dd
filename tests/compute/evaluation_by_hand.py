"""Evaluation's figures from plain transformers with a hook by hand, and an SAE in NumPy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.compute import mi_crow_compat  # noqa: F401

from mi_crow.mechanistic.sae.sae import Sae

Array = NDArray[np.float64]
FIGURES = (
    "mse", "explained_variance", "l0", "dead_fraction", "cosine_similarity", "relative_reconstruction_bias",
    "ce_loss_original", "ce_loss_reconstructed", "ce_loss_zero_ablated", "ce_loss_recovered",
    "kl_divergence_reconstructed",
)  # fmt: skip


class NumpySae:
    """mi_crow's TopK and L1 SAEs by their formulas."""

    def __init__(self, sae: Sae, k: int | None) -> None:
        self._take(sae.sae_engine.state_dict(), k)

    @classmethod
    def of_checkpoint(cls, path: Path, k: int | None) -> "NumpySae":
        """Read what mi_crow's SAEs save."""
        made = cls.__new__(cls)
        made._take(torch.load(path)["sae_state_dict"], k)
        return made

    def _take(self, state: dict[str, Tensor], k: int | None) -> None:
        weights = {name: value.double().numpy() for name, value in state.items()}
        self.encoder = weights["encoder.final_block.0.weight"].T
        self.bias = weights["encoder.final_block.0.bias"]
        rows = weights["dictionary._weights"]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        self.decoder = rows / lengths * np.exp(weights["dictionary.multiplier"])
        self.k = k

    def reconstruct(self, latents: Array) -> Array:
        """Return latents @ dictionary."""
        return np.asarray(latents @ self.decoder)

    def latents(self, x: Array) -> Array:
        """Return the latents [n, n_latents]."""
        latents = np.maximum(x @ self.encoder + self.bias, 0)
        if self.k is not None:
            kth = np.sort(latents, axis=1)[:, -self.k, None]
            latents = np.where(latents >= kth, latents, 0)
        return np.asarray(latents)


class NumpyAffineSae:
    """The SAEs with a decoder bias by their formulas: a top-k, thresholds, gates, or none of these."""

    def __init__(self, sae: Sae) -> None:
        weights = {name: value.double().numpy() for name, value in sae.sae_engine.state_dict().items()}
        self.weights, self.k = weights, sae.sae_engine.k
        self.subtracted = weights["decoder_bias"] if sae.sae_engine.subtracts_bias else 0.0
        self.threshold = weights.get("threshold", np.zeros(()))
        self.per_token = "threshold" not in weights and self.k is not None

    def reconstruct(self, latents: Array) -> Array:
        """Return latents @ dictionary + bias."""
        return np.asarray(latents @ self.weights["decoder_weight"] + self.weights["decoder_bias"])

    def latents(self, x: Array) -> Array:
        """Return the latents [n, n_latents]."""
        weights = self.weights
        latents_here = (x - self.subtracted) @ weights["encoder_weight"].T + weights["encoder_bias"]
        if "magnitude_bias" in weights:
            sizes = np.exp(weights["magnitude_log_scale"]) * (latents_here - weights["encoder_bias"])
            return np.asarray(np.maximum(sizes + weights["magnitude_bias"], 0) * (latents_here > 0))
        latents_here = np.where(latents_here > np.maximum(self.threshold, 0), latents_here, 0)
        if self.per_token:
            latents_here = np.where(
                latents_here >= np.sort(latents_here, axis=1)[:, -self.k, None], latents_here, 0
            )
        return np.asarray(latents_here)


class ByHand:
    """Every figure, from the texts one by one or in one padded batch, without any of the server's code."""

    def __init__(
        self,
        directory: Path,
        layer: str,
        sae: NumpySae | NumpyAffineSae,
        side: str | None = None,
        dtype: Any = torch.float32,
    ) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
        self.module = self.model.get_submodule(layer)
        self.sae, self.side = sae, side
        self.first, self.limit = 0, np.inf
        """Tokens at positions before ``first`` and activations longer than ``limit`` are left as they are."""

    def figures(self, texts: Sequence[str], max_length: int) -> dict[str, float]:
        rows: list[Array] = []
        passes: dict[str, list[Array]] = {"own": [], "reconstructed": [], "zeroed": []}
        targets: list[int] = []
        for ids, mask in self._batches(texts, max_length):
            counted = mask.bool() & ~torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids))
            x, own = self._run(ids, mask, None)
            places, norms = mask.cumsum(dim=1) - 1, x.double().square().sum(dim=-1).sqrt()
            counted &= (places >= self.first) & (norms <= self.limit)
            hat = x.clone()
            wide = x[counted].double().numpy()
            hat[counted] = torch.from_numpy(self._reconstruct(wide)).to(x.dtype)
            zeroed = torch.where(counted[..., None], 0.0, x)
            logits = (own, self._run(ids, mask, hat)[1], self._run(ids, mask, zeroed)[1])
            for text in range(len(ids)):
                for place in range(1, ids.shape[1]):
                    if counted[text, place] and mask[text, place - 1]:
                        targets.append(int(ids[text, place]))
                        for kept, values in zip(passes.values(), logits, strict=True):
                            kept.append(log_softmax(values[text, place - 1].double().numpy()))
            rows.append(wide)
        return self._near(np.concatenate(rows)) | self._predicted(passes, targets)

    def _batches(self, texts: Sequence[str], max_length: int) -> list[tuple[Tensor, Tensor]]:
        ids = [self.tokenizer(text)["input_ids"][:max_length] for text in texts]
        ids = [one for one in ids if not set(self.tokenizer.all_special_ids).issuperset(one)]
        if self.side is None:
            return [(torch.tensor([one]), torch.ones(1, len(one), dtype=torch.long)) for one in ids]
        width, pad = max(map(len, ids)), self.tokenizer.pad_token_id
        left = self.side == "left"
        fill = [[pad] * (width - len(one)) for one in ids]
        batch = [gap + one if left else one + gap for one, gap in zip(ids, fill, strict=True)]
        real = [[0] * len(gap) + [1] * len(one) for one, gap in zip(ids, fill, strict=True)]
        return [(torch.tensor(batch), torch.tensor([one if left else one[::-1] for one in real]))]

    def _run(self, ids: Tensor, mask: Tensor, instead: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the layer's output, and the logits with ``instead`` in its place."""
        seen: list[Tensor] = []

        def hook(module: Any, inputs: Any, output: Any) -> Any:
            tensor, *others = output if isinstance(output, tuple) else (output,)
            seen.append(tensor.clone())
            replaced = tensor if instead is None else instead
            return (replaced, *others) if isinstance(output, tuple) else replaced

        handle = self.module.register_forward_hook(hook)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        with torch.no_grad():
            logits = self.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        handle.remove()
        return seen[0], logits

    def _reconstruct(self, x: Array) -> Array:
        return self.sae.reconstruct(self.sae.latents(x))

    def _near(self, x: Array) -> dict[str, float]:
        latents, x_hat = self.sae.latents(x), self._reconstruct(x)
        products = (x * x_hat).sum(axis=1)
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(x_hat, axis=1)
        return {
            "token_count": len(x),
            "mse": ((x - x_hat) ** 2).mean(),
            "explained_variance": 1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum(),
            "l0": (latents != 0).sum(axis=1).mean(),
            "dead_fraction": (latents == 0).all(axis=0).mean(),
            "cosine_similarity": np.divide(products, lengths, where=lengths > 0, out=lengths * 0).mean(),
            "relative_reconstruction_bias": (x_hat**2).sum() / products.sum(),
        }

    def _predicted(self, passes: dict[str, list[Array]], targets: list[int]) -> dict[str, float]:
        own, reconstructed, zeroed = (np.stack(kept) for kept in passes.values())
        ce_own, ce_hat, ce_zero = (
            -kept[np.arange(len(targets)), targets].mean() for kept in (own, reconstructed, zeroed)
        )
        return {
            "predicted_token_count": len(targets),
            "ce_loss_original": ce_own,
            "ce_loss_reconstructed": ce_hat,
            "ce_loss_zero_ablated": ce_zero,
            "ce_loss_recovered": (ce_zero - ce_hat) / (ce_zero - ce_own),
            "kl_divergence_reconstructed": (np.exp(own) * (own - reconstructed)).sum(axis=1).mean(),
        }


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
