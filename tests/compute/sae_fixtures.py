"""A language model, an SAE on one of its layers, and activations read without mi_crow."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.protocol.sources import SaeSource

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

LAYER = "llamaforcausallm_model_layers_0"
N_LATENTS = 48
K = 6


def make_sae(lm: LanguageModel, name: str = "TopKSae", seed: int = 0) -> Sae:
    """Make an SAE with random weights, its latents about as large as the layer's activations."""
    torch.manual_seed(seed)
    sae = SaeClasses().get(name).build(N_LATENTS, lm.model.config.hidden_size, K, "cpu")
    place(sae, "cpu")
    sae.sae_engine.requires_grad_(False)
    return sae


def sae_source(sae_class: str = "TopKSae") -> SaeSource:
    """Name that SAE as tasks do."""
    return SaeSource("sae_1", sae_class, "/nowhere", LAYER, 32, N_LATENTS, K)


def layer_output(lm: LanguageModel, token_ids: Sequence[int]) -> Tensor:
    """Return what layer 0 puts out on token ids [n_tokens, n_inputs], by a torch hook on the bare model."""
    caught: list[Tensor] = []

    def catch(module: Any, inputs: Any, output: Any) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)

    handle = lm.model.model.layers[0].register_forward_hook(catch)
    try:
        with torch.inference_mode():
            lm.model(torch.tensor([list(token_ids)]))
    finally:
        handle.remove()
    return caught[0][0].clone()


def logits(lm: LanguageModel, token_ids: Sequence[int]) -> Tensor:
    """Return the bare model's logits [n_tokens, vocabulary], with whatever hooks it has."""
    with torch.inference_mode():
        output: Tensor = lm.model(torch.tensor([list(token_ids)])).logits[0].clone()
    return output
