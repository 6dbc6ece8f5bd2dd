"""SAEs as dictionary_learning and sparsify have them; formats/sae_sources reads them.

dictionary_learning's ``AutoEncoder``, ``AutoEncoderTopK`` and ``BatchTopKSAE`` subtract the decoder bias, its
``AutoEncoderNew`` and ``JumpReluAutoEncoder`` do not, and sparsify's ``SparseCoder`` does. Where an SAE does
otherwise, its encoder bias takes over what the subtraction would give:

    W (x - b_d) + b_e = W x + (b_e - W b_d)
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gql_server.compute.formats.tensor_writing import write_safetensors, write_state_dict
from gql_server.compute.saes.weights import SaeWeights
from gql_server.compute.worker.context import TaskError

_ROWS_AT_ONCE = 4096
_BLOCK = re.compile(r"blocks\.(\d+)\.hook_resid_post")


def write_dictionary_learning(
    weights: SaeWeights, k: int | None, metadata: Mapping[str, Any], directory: Path
) -> None:
    """Write ae.pt and config.json, as dictionary_learning's ``load_dictionary`` reads them.

    Args:
        weights: The SAE's.
        k: Latents per token that it aims at, where it does.
        metadata: What is known of where it belongs; kept in config.json.
        directory: To write into.
    """
    dict_class, tensors = _dictionary(weights, k)
    found = _BLOCK.fullmatch(str(metadata.get("hook_name")))
    of_block = {"layer": int(found[1]), "submodule_name": f"resid_post_layer_{found[1]}"} if found else {}
    trainer = {
        "dict_class": dict_class,
        "activation_dim": weights.n_inputs,
        "dict_size": weights.n_latents,
        **({"k": k} if "k" in tensors else {}),
        "lm_name": metadata.get("model_name"),
        **of_block,
    }
    buffer = {"d_submodule": weights.n_inputs, "io": "out", "ctx_len": metadata.get("context_size")}
    config = {"trainer": trainer, "buffer": buffer, "gql_server": dict(metadata)}
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    write_state_dict(directory / "ae.pt", tensors)


def _dictionary(weights: SaeWeights, k: int | None) -> tuple[str, dict[str, Tensor]]:
    """Return the library's class, and its state dict."""
    if weights.threshold is not None and k is None:
        return "JumpReluAutoEncoder", {
            "W_enc": weights.encoder_weight.T,
            "b_enc": encoder_bias(weights, subtracts=False),
            "W_dec": weights.decoder_weight,
            "b_dec": weights.decoder_bias,
            "threshold": weights.threshold,
        }
    if weights.magnitudes is not None:
        shift = torch.zeros(()).double() if weights.subtracts_bias else _shift(weights)
        scale, bias = weights.magnitudes.log_scale, weights.magnitudes.bias
        return "GatedAutoEncoder", {
            "encoder.weight": weights.encoder_weight,
            "decoder.weight": weights.decoder_weight.T,
            "decoder_bias": weights.decoder_bias,
            "gate_bias": encoder_bias(weights, subtracts=True),
            "r_mag": scale,
            "mag_bias": (bias.double() + scale.double().exp() * shift).float(),
        }
    is_new = weights.threshold is None and k is None and not weights.subtracts_bias
    tensors = {
        "encoder.weight": weights.encoder_weight,
        "encoder.bias": encoder_bias(weights, subtracts=not is_new),
        "decoder.weight": weights.decoder_weight.T,
    }
    if k is None:
        name = "decoder.bias" if is_new else "bias"
        return ("AutoEncoderNew" if is_new else "AutoEncoder"), tensors | {name: weights.decoder_bias}
    # -1 is the library's word for none, which its AutoEncoderTopK does not use anyway.
    threshold = torch.tensor(-1.0) if weights.threshold is None else weights.threshold[0].clone()
    tensors |= {
        "b_dec": weights.decoder_bias,
        "k": torch.tensor(k, dtype=torch.int),
        "threshold": threshold,
    }
    return ("AutoEncoderTopK" if weights.threshold is None else "BatchTopKSAE"), tensors


def write_sparsify(
    weights: SaeWeights, metadata: Mapping[str, Any], directory: Path, check: Callable[[], None]
) -> None:
    """Write cfg.json and sae.safetensors, as sparsify's ``SparseCoder.load_from_disk`` reads them.

    What is known of where the SAE belongs stands in gql_server.json beside them: sparsify says it by the name
    of the directory. TaskError where the SAE is no topk.
    """
    if weights.k is None or weights.threshold is not None:
        raise TaskError("sparsify has topk alone.")
    cfg = {
        "activation": "topk",
        # Not used where num_latents is given; a whole number for those that look at it.
        "expansion_factor": max(1, weights.n_latents // weights.n_inputs),
        # Training would bring the decoder's rows to length 1 otherwise.
        "normalize_decoder": False,
        "num_latents": weights.n_latents,
        "k": weights.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": weights.n_inputs,
    }
    (directory / "cfg.json").write_text(json.dumps(cfg, indent=2))
    (directory / "gql_server.json").write_text(json.dumps(dict(metadata), indent=2))
    tensors = {
        "encoder.weight": weights.encoder_weight,
        "encoder.bias": encoder_bias(weights, subtracts=True),
        "W_dec": weights.decoder_weight,
        "b_dec": weights.decoder_bias,
    }
    write_safetensors(directory / "sae.safetensors", tensors, check)


def encoder_bias(weights: SaeWeights, *, subtracts: bool) -> Tensor:
    """Return b_e [n_latents] for an encoder that subtracts b_d from its input, or for one that does not.

    Summed in float64 and rounded once, so within half a unit in the last place.
    """
    if weights.subtracts_bias == subtracts or not weights.decoder_bias.any():
        return weights.encoder_bias
    shift = _shift(weights)
    return (weights.encoder_bias.double() + (shift if subtracts else -shift)).float()


def _shift(weights: SaeWeights) -> Tensor:
    """Return W_e b_d [n_latents], in float64."""
    bias = weights.decoder_bias.double()
    return torch.cat([part.double() @ bias for part in weights.encoder_weight.split(_ROWS_AT_ONCE)])
