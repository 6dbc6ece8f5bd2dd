"""Records what dictionary-learning's dictionaries compute: run by its environment's Python.

Configurations are those of the package's own trainers; weights are set, and what is recorded is what the
trainer's dictionary computes of them, before any loading that scales them anew.
"""

import json
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tests.published.recording import RECORDED, K, record, rows
from tests.published.weights import N_INPUTS, N_LATENTS, Weights, tensor, tensors, weights

# The package imports these two for capturing and for logging; neither is used here.
for name in ("nnsight", "wandb"):
    sys.modules[name] = ModuleType(name)
sys.modules["nnsight"].LanguageModel = object  # type: ignore[attr-defined]

from dictionary_learning import trainers  # noqa: E402
from dictionary_learning.dictionary import AutoEncoderNew  # noqa: E402
from dictionary_learning.trainers.jumprelu import JumpReluTrainer  # noqa: E402
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer  # noqa: E402
from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate  # noqa: E402

COMMON = {
    "steps": 5000,
    "activation_dim": N_INPUTS,
    "dict_size": N_LATENTS,
    "layer": 3,
    "lm_name": "EleutherAI/pythia-70m-deduped",
    "submodule_name": "resid_post_layer_3",
    "device": "cpu",
}
THRESHOLD = 0.5


def linear(w: Weights) -> dict[str, Tensor]:
    """Return the tensors of two linear layers."""
    return tensors(encoder__weight=w.encoder, encoder__bias=w.encoder_bias, decoder__weight=w.decoder.T)


def matrices(w: Weights) -> dict[str, Tensor]:
    """Return the tensors of two matrices."""
    return tensors(W_enc=w.encoder.T, b_enc=w.encoder_bias, W_dec=w.decoder, b_dec=w.decoder_bias)


def gated(w: Weights) -> dict[str, Tensor]:
    """Return a gated dictionary's tensors; the gate of latent 0 is at 0 for all rows."""
    generator = torch.Generator().manual_seed(7)
    gate_bias, magnitude_bias = tensor(w.encoder_bias), tensor(w.encoder_bias)
    gate_bias[0], magnitude_bias[0] = -THRESHOLD, 2
    return {
        "decoder_bias": tensor(w.decoder_bias),
        "encoder.weight": tensor(w.encoder),
        "gate_bias": gate_bias,
        "r_mag": torch.randn(N_LATENTS, generator=generator) / 2,
        "mag_bias": magnitude_bias + torch.randn(N_LATENTS, generator=generator),
        "decoder.weight": tensor(w.decoder.T),
    }


def jumprelu(w: Weights) -> dict[str, Tensor]:
    """Return a JumpReLU dictionary's tensors; every third threshold is below 0."""
    threshold = tensor(w.threshold)
    threshold[3::3] *= -1
    return matrices(w) | {"threshold": threshold}


def made() -> dict[str, tuple[Any, dict[str, Tensor]]]:
    """Return trainers by name, each with the tensors that its dictionary gets."""
    subtracted, plain = weights(1, subtracted=True), weights(2)
    bias = tensor(subtracted.decoder_bias)
    one_threshold = {"b_dec": bias, "threshold": torch.tensor(THRESHOLD)}
    standard, new = linear(subtracted) | {"bias": bias}, linear(plain)
    new |= {"decoder.bias": tensor(plain.decoder_bias)}
    nested = matrices(subtracted) | one_threshold
    fractions = {"group_fractions": [0.25, 0.75]}
    return {
        "standard": (trainers.StandardTrainer(**COMMON), standard),
        "standard_april_update": (StandardTrainerAprilUpdate(**COMMON), standard),
        "standard_new": (trainers.StandardTrainer(**COMMON, dict_class=AutoEncoderNew), new),
        "p_anneal": (trainers.PAnnealTrainer(**COMMON), standard),
        "gated": (trainers.GatedSAETrainer(**COMMON), gated(subtracted)),
        "jumprelu": (JumpReluTrainer(**COMMON), jumprelu(plain)),
        "topk": (trainers.TopKTrainer(**COMMON, k=K), linear(subtracted) | {"b_dec": bias}),
        "topk_beyond_positive": (
            trainers.TopKTrainer(**COMMON, k=N_LATENTS - 5),
            linear(subtracted) | {"b_dec": bias},
        ),
        "batch_topk": (trainers.BatchTopKTrainer(**COMMON, k=K), linear(subtracted) | one_threshold),
        "matryoshka": (MatryoshkaBatchTopKTrainer(**COMMON, k=K, **fractions), nested),
    }


def main() -> None:
    """Write all anew."""
    for name, (trainer, state) in made().items():
        directory = RECORDED / "dictionary_learning" / name
        directory.mkdir(parents=True, exist_ok=True)
        dictionary = trainer.ae
        dictionary.load_state_dict(dictionary.state_dict() | state)
        # As the package's trainSAE writes them.
        (directory / "config.json").write_text(
            json.dumps({"trainer": trainer.config, "buffer": {}}, indent=4)
        )
        torch.save(dictionary.state_dict(), directory / "ae.pt")
        latents = dictionary.encode(rows())
        record(directory, latents, dictionary.decode(latents))


if __name__ == "__main__":
    main()
