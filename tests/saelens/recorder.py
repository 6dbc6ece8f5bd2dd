"""Records what the sae-lens package itself makes of SAEs: run by its own Python, without this project.

    python recorder.py DIRECTORY

Makes SAEs with sae-lens under ``DIRECTORY/made``, then loads those, and what is under
``DIRECTORY/exported``, as its users would, and writes beside each what it computes: ``said.safetensors`` with
inputs [n, d_in], latents [n, d_sae] and reconstructions [n, d_in]. The inputs are random numbers, but where
an SAE is as wide as the model, its activations on prompts: ``DIRECTORY/prompts.safetensors``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from sae_lens import (
    SAE,
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)
from safetensors.torch import load_file, save_file

N_INPUTS, N_LATENTS, K, N_ROWS = 16, 64, 5, 24
SIZES = {"d_in": N_INPUTS, "d_sae": N_LATENTS}
MODEL_SIZES = {"d_in": 32, "d_sae": N_LATENTS}
LAYER_NORM, CONSTANT_NORM = "layer_norm", "constant_norm_rescale"
METADATA = {"model_name": "tiny", "hook_name": "blocks.0.hook_resid_post", "context_size": 64}


def main(directory: Path) -> None:
    """Make SAEs, and record all that there are."""
    for name, sae in made().items():
        sae.save_model(directory / "made" / name)
    as_before_version_6(
        directory / "made" / "topk_without_rescaling", directory / "made" / "topk_of_version_5"
    )
    activations = load_file(directory / "prompts.safetensors")["activations"]
    for path in sorted(directory.glob("*/*/cfg.json")):
        record(path.parent, activations)


def made() -> dict[str, Any]:
    """Return SAEs of sae-lens with weights of every kind: rows of any length, biases that matter."""
    topk = {"k": K, **SIZES}
    saes = {
        "standard": StandardSAE(StandardSAEConfig(apply_b_dec_to_input=True, **SIZES)),
        "standard_without_input_bias": StandardSAE(StandardSAEConfig(apply_b_dec_to_input=False, **SIZES)),
        "standard_in_bfloat16": StandardSAE(StandardSAEConfig(dtype="bfloat16", **SIZES)),
        "topk_with_rescaling": TopKSAE(TopKSAEConfig(rescale_acts_by_decoder_norm=True, **topk)),
        "topk_without_rescaling": TopKSAE(TopKSAEConfig(rescale_acts_by_decoder_norm=False, **topk)),
        "jumprelu": JumpReLUSAE(JumpReLUSAEConfig(apply_b_dec_to_input=False, **SIZES)),
        "topk_on_prompts": TopKSAE(TopKSAEConfig(k=K, **MODEL_SIZES)),
        "jumprelu_on_prompts": JumpReLUSAE(JumpReLUSAEConfig(apply_b_dec_to_input=False, **MODEL_SIZES)),
        "gated": GatedSAE(GatedSAEConfig(**SIZES)),
        "gated_on_prompts": GatedSAE(GatedSAEConfig(apply_b_dec_to_input=False, **MODEL_SIZES)),
        "standard_with_layer_norm": StandardSAE(StandardSAEConfig(normalize_activations=LAYER_NORM, **SIZES)),
        "topk_with_layer_norm_on_prompts": TopKSAE(
            TopKSAEConfig(
                rescale_acts_by_decoder_norm=True, normalize_activations=LAYER_NORM, k=K, **MODEL_SIZES
            )
        ),
        "jumprelu_with_constant_norm": JumpReLUSAE(
            JumpReLUSAEConfig(normalize_activations=CONSTANT_NORM, **SIZES)
        ),
        "gated_with_constant_norm": GatedSAE(GatedSAEConfig(normalize_activations=CONSTANT_NORM, **SIZES)),
    }
    for seed, sae in enumerate(saes.values()):
        fill(sae, seed)
    return saes


def fill(sae: Any, seed: int) -> None:
    """Give an SAE random weights."""
    generator = torch.Generator().manual_seed(seed)
    n_inputs = sae.cfg.d_in

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    lengths = torch.rand(N_LATENTS, 1, generator=generator) + 0.25
    tensors = {
        "W_enc": random(n_inputs, N_LATENTS),
        "b_enc": random(N_LATENTS),
        "W_dec": random(N_LATENTS, n_inputs) * lengths,
        "b_dec": random(n_inputs) + 4,
    }
    if isinstance(sae, GatedSAE):
        tensors["b_gate"] = tensors.pop("b_enc")
        tensors |= {"r_mag": random(N_LATENTS) / 2, "b_mag": random(N_LATENTS) - 1}
    if sae.cfg.normalize_activations != "none":
        tensors["b_dec"] -= 3.5  # Inputs are around 0 then.
    if isinstance(sae, JumpReLUSAE):
        tensors["threshold"] = random(N_LATENTS) + 0.5  # Some of them below 0.
    sae.load_state_dict({name: tensor.to(sae.dtype) for name, tensor in tensors.items()})
    for name, value in METADATA.items():
        sae.cfg.metadata[name] = value


def as_before_version_6(source: Path, target: Path) -> None:
    """Copy a TopK SAE as sae-lens 5 wrote it: one flat object, and the activation function by name."""
    cfg = json.loads((source / "cfg.json").read_text())
    old = {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": cfg["k"]},
        "d_in": cfg["d_in"],
        "d_sae": cfg["d_sae"],
        "dtype": "torch.float32",
        "hook_point": METADATA["hook_name"],
        "model_name": METADATA["model_name"],
        "normalize_activations": False,
        "finetuning_scaling_factor": False,
        "sae_lens_training_version": "5.10.0",
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / "cfg.json").write_text(json.dumps(old))
    (target / "sae_weights.safetensors").write_bytes((source / "sae_weights.safetensors").read_bytes())


def record(directory: Path, activations: torch.Tensor) -> None:
    """Load an SAE as a user of sae-lens does, and write down what it computes of inputs that fit it."""
    # The weights as they are stored, computed with in float32.
    sae = SAE.load_from_disk(directory, dtype="float32")
    generator = torch.Generator().manual_seed(sum(directory.name.encode()))
    inputs = torch.randn(N_ROWS, N_INPUTS, generator=generator) * 2 + 3
    inputs = activations if sae.cfg.d_in == activations.shape[1] else inputs
    with torch.no_grad():
        latents = sae.encode(inputs)
        said = {"inputs": inputs, "latents": latents, "reconstructions": sae(inputs)}
        sae.encode(inputs)  # It remembers what it normalized until it decodes.
        assert torch.equal(said["reconstructions"], sae.decode(latents))
    save_file({name: tensor.contiguous() for name, tensor in said.items()}, directory / "said.safetensors")
    active = float((latents != 0).float().sum(dim=1).mean())
    print(f"{directory.parent.name}/{directory.name}: {type(sae).__name__}, {active:.1f} latents active")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
