"""What an SAE says of prompts, computed by hand: plain transformers, and the checkpoint opened by mi_crow."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)

from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae


class ByHand:
    """A language model and an SAE over the output of one of its blocks."""

    def __init__(self, model: Path, checkpoint: Path, block: int) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.model: Any = AutoModelForCausalLM.from_pretrained(model).eval()
        self.sae = TopKSae.load(checkpoint)
        self._block = block

    @torch.no_grad()
    def activations(self, token_ids: list[int]) -> torch.Tensor:
        """Return the block's output: [n_tokens, n_inputs]."""
        # hidden_states[0] are the embeddings; the last entry has the final norm applied: none of ours.
        outputs = self.model(torch.tensor([token_ids]), output_hidden_states=True)
        activations: torch.Tensor = outputs.hidden_states[self._block + 1][0]
        return activations

    @torch.no_grad()
    def latents(self, token_ids: list[int]) -> torch.Tensor:
        """Return the sparse codes, zero at special tokens: [n_tokens, n_latents]."""
        latents: torch.Tensor = self.sae.encode(self.activations(token_ids))
        special = torch.isin(torch.tensor(token_ids), torch.tensor(self.tokenizer.all_special_ids))
        latents[special] = 0
        return latents


def assert_same_ranking(found: list[dict[str, Any]], expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Check neurons, as the API ranks them, against the value of every neuron: [n_latents].

    Each listed neuron has its value, and none left out has a higher one than the last listed (ties aside).
    """
    listed = [neuron["neuron"]["index"] for neuron in found]
    values = [neuron["activation"] for neuron in found]
    assert len(set(listed)) == len(listed)
    torch.testing.assert_close(torch.tensor(values), expected[listed].float(), rtol=tolerance, atol=tolerance)
    assert values == sorted(values, reverse=True)
    rest = expected.clone()
    rest[listed] = 0
    assert rest.max() <= (values[-1] if values else 0) + tolerance
