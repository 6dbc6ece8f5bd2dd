"""Records what llamascopium's SAEs compute: run by its environment's Python.

Where an SAE has no average norm, the package writes memory that it has not set: these files differ from one
run to the next, and nothing may read it.
"""

from pathlib import Path
from typing import Any

import torch
from llamascopium import SAEConfig, SparseAutoEncoder

from tests.published.recording import RECORDED, K, record, rows
from tests.published.weights import N_INPUTS, N_LATENTS, tensor, weights

BEFORE, AFTER = "blocks.0.hook_attn_out", "blocks.0.hook_mlp_out"
HERE = "blocks.0.hook_resid_post"
NORMS = {HERE: 3.7, BEFORE: 2.5, AFTER: 5.3}
"""Average lengths of activations, as a training finds them."""


def configs() -> dict[str, dict[str, Any]]:
    """Return by name what each SAE has of its own."""
    every: dict[str, dict[str, Any]] = {}
    for activation in ("relu", "jumprelu", "topk"):
        for norm in ("dataset-wise", "token-wise", "inference"):
            for by_decoder in (True, False):
                by = "by_decoder_norm" if by_decoder else "plain"
                every[f"{activation}_{norm.replace('-', '_')}_{by}"] = {
                    "act_fn": activation,
                    "norm_activation": norm,
                    "sparsity_include_decoder_norm": by_decoder,
                }
    every["transcoder"] = every["topk_dataset_wise_by_decoder_norm"] | {
        "hook_point_in": BEFORE,
        "hook_point_out": AFTER,
    }
    every["without_decoder_bias"] = every["relu_dataset_wise_plain"] | {"use_decoder_bias": False}
    return every


def main() -> None:
    """Write all anew."""
    for name, own in configs().items():
        given = {
            "hook_point_in": HERE,
            "hook_point_out": HERE,
            "d_model": N_INPUTS,
            "expansion_factor": N_LATENTS / N_INPUTS,
            "top_k": K,
            "device": "cpu",
            "dtype": torch.float32,
        }
        write(RECORDED / "llamascopium" / name, SAEConfig(**given | own))


@torch.no_grad()
def write(directory: Path, config: SAEConfig) -> None:
    """Save an SAE as the package does, load it as its users do, and record what it computes of raw inputs."""
    directory.mkdir(parents=True, exist_ok=True)
    norms = {hook: NORMS[hook] for hook in config.associated_hook_points}
    w = weights(2)
    sae = SparseAutoEncoder(config)
    state = {
        "W_E": tensor(w.encoder.T),
        "b_E": tensor(w.encoder_bias),
        "W_D": tensor(w.decoder),
        "b_D": tensor(w.decoder_bias),
        "activation_function.log_jumprelu_threshold": tensor(w.threshold).log(),
    }
    own = sae.state_dict()
    sae.load_state_dict(own | {key: tensor for key, tensor in state.items() if key in own})
    if config.norm_activation == "dataset-wise":
        sae.set_dataset_average_activation_norm(norms)
    sae.save_pretrained(directory)
    config.save_hyperparameters(directory)
    loaded = SparseAutoEncoder.from_pretrained(str(directory), device="cpu", dtype=torch.float32)
    hooks = (config.hook_point_in, config.hook_point_out)
    normalized, factors = loaded.normalize_activations(dict.fromkeys(hooks, rows()), return_scale_factor=True)
    latents = loaded.encode(normalized[config.hook_point_in])
    restored = loaded.decode(latents) / factors[config.hook_point_out]
    if config.act_fn == "topk" and config.sparsity_include_decoder_norm:
        # What is selected by is what an import gives: latents times the lengths of the rows that it stores.
        latents = latents * loaded.decoder_norm()
        if config.norm_activation == "dataset-wise":
            latents = latents / factors[config.hook_point_out]
    record(directory, latents, restored)


if __name__ == "__main__":
    main()
