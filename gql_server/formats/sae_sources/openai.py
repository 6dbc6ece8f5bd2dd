"""OpenAI's sparse_autoencoder (Gao et al. 2024, for GPT-2 small): a state dict with its activation function.

a = relu(encoder(x - pre_bias) + latent_bias), x_hat = decoder(a) + pre_bias; with TopK a keeps the k largest
first, and each token is normalized by its mean and standard deviation before, and restored after.
"""

from typing import Any

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
    metadata_of,
    narrow_dtype,
)
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles, whole_number

TENSORS = {"encoder.weight", "pre_bias", "latent_bias", "decoder.weight"}
_STATISTICS = {"stats_last_nonzero"}
_HOOKS = {
    "resid_delta_attn": "hook_attn_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_mlp": "hook_resid_post",
}
"""What the directories are called by that the files are published in, in TransformerLens' words."""


def matches(files: SourceFiles) -> bool:
    """Whether there is one file with these tensors."""
    name = files.checkpoint
    return name is not None and files.tensors(name).tensors.keys() >= TENSORS


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE. NotRepresentable says why it cannot be taken over."""
    name = files.checkpoint
    if name is None:
        raise NotRepresentable("Name the file of weights.")
    file = files.tensors(name)
    activation = file.values.get("activation")
    if activation not in ("ReLU", "TopK"):
        raise NotRepresentable(
            f"The activation function {shown(activation)} has no counterpart here: ReLU and TopK can be"
            " imported."
        )
    k = _k(file.values.get("activation_state_dict")) if activation == "TopK" else None
    file.check_names(TENSORS, _STATISTICS, "OpenAI's")
    sizes = Sizes(file.size("pre_bias"), file.size("latent_bias"))
    names = ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias")
    plan = sizes.plan(file, names, subtracts_bias=True, decoder_by_input=True)
    return SaeDescription(
        format="OPENAI",
        architecture=activation,
        sae_class="ReLUSae" if k is None else "BiasedTopKSae",
        n_inputs=sizes.n_inputs,
        n_latents=sizes.n_latents,
        k=k,
        files=(name,),
        weights=plan,
        place=_place(files),
        # The library says so by the activation function alone.
        input_normalization="NONE" if k is None else "LAYER_NORM",
        computed_in=narrow_dtype(plan),
        metadata=metadata_of(activation, plan, place=_place(files)),
    )


def _place(files: SourceFiles) -> str | None:
    """Return the hook that a path such as resid_post_mlp_v5_32k/autoencoders/8.pt names."""
    where = files.in_path(r"(?:^|/)(resid_(?:delta|post)_(?:attn|mlp))(?:_v[^/]*)?/autoencoders/\d+\.pt$")
    layer = files.in_path(r"/(\d{1,4})\.pt$")
    return None if where is None or layer is None else f"blocks.{int(layer)}.{_HOOKS[where]}"


def _k(state: Any) -> int:
    """Return the k of a TopK's state."""
    state = state if isinstance(state, dict) else {}
    after = state.get("postact_fn")
    if after != "ReLU":
        raise NotRepresentable(
            f"Behind its TopK stands {shown(after)} (postact_fn): only with ReLU is no latent below 0."
        )
    return whole_number("activation_state_dict", state, "k")
