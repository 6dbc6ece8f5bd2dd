"""SAEs in SAELens' format: what is written of an SAE for sae-lens; formats/sae_sources reads it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gql_server.compute.saes.weights import SaeWeights
from gql_server.formats.input_normalizations import IN_SAE_LENS

SAE_LENS_VERSION = "6.54.12"
"""The version of sae-lens whose format is written; tests/saelens has recordings of that version."""


def tensors_of(weights: SaeWeights) -> dict[str, Tensor]:
    """Return the tensors of sae_weights.safetensors; W_enc is a view, which takes no memory of its own."""
    tensors = {
        "W_enc": weights.encoder_weight.T,
        "b_enc" if weights.magnitudes is None else "b_gate": weights.encoder_bias,
        "W_dec": weights.decoder_weight,
        "b_dec": weights.decoder_bias,
    }
    if weights.magnitudes is not None:
        tensors |= {"r_mag": weights.magnitudes.log_scale, "b_mag": weights.magnitudes.bias}
    return tensors | ({"threshold": weights.threshold} if weights.threshold is not None else {})


def cfg_of(weights: SaeWeights, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what cfg.json says of an SAE; ``metadata`` goes into its metadata."""
    of_topk = {"k": weights.k, "rescale_acts_by_decoder_norm": False}
    is_of_heads = str(metadata.get("hook_name")).endswith(".hook_z")
    architecture = "jumprelu" if weights.threshold is not None else "topk" if weights.k else "standard"
    architecture = architecture if weights.magnitudes is None else "gated"
    return {
        "architecture": architecture,
        "d_in": weights.n_inputs,
        "d_sae": weights.n_latents,
        **(of_topk if architecture == "topk" else {}),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": weights.subtracts_bias,
        "normalize_activations": IN_SAE_LENS[weights.input_normalization],
        "reshape_activations": "hook_z" if is_of_heads else "none",
        "metadata": {"sae_lens_version": SAE_LENS_VERSION, **metadata},
    }
