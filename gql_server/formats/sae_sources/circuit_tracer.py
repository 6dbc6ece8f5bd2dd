"""circuit-tracer's transcoders, as mwhanna publishes them for Qwen3: layer_N.safetensors, one for each layer.

a = z H(z - threshold) where there are thresholds, without a ReLU, else relu(z), for z = x W_encᵀ + b_enc;
x_hat = a W_dec + b_dec, and x W_skipᵀ where there is a skip connection. Nothing is subtracted.
"""

from dataclasses import replace

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
    Threshold,
    metadata_of,
    narrow_dtype,
)
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import SourceFiles

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")
THRESHOLD, SKIP = "activation_function.threshold", "W_skip"
_FILE = r"layer_\d{1,4}\.safetensors"
_NUMBER = r"layer_(\d{1,4})\.safetensors$"
_MLP_TO_MLP = r"(?:^|/)(qwen3-[0-9.]+b-transcoders)(?:[-/]|$)"
"""Repositories that go from the MLP's input to its output."""


def matches(files: SourceFiles) -> bool:
    """Whether there is one layer's file."""
    return files.pick_like(_FILE) is not None


def describe(files: SourceFiles) -> SaeDescription:
    """Describe a transcoder. NotRepresentable says why it cannot be taken over."""
    name = files.pick_like(_FILE)
    if name is None:
        raise NotRepresentable("The directory has no layer_N.safetensors, or several: name one.")
    file = files.tensors(name)
    file.check_names({*TENSORS}, {THRESHOLD, SKIP}, "circuit-tracer's")
    jumps = THRESHOLD in file.tensors
    architecture = "jumprelu" if jumps else "relu"
    sizes = Sizes(file.size("b_dec"), file.size("b_enc"))
    plan = replace(
        sizes.plan(file, TENSORS, subtracts_bias=False),
        threshold=Threshold(sizes.latents(file, THRESHOLD), has_relu=False) if jumps else None,
        skip=sizes.skip(file, SKIP) if SKIP in file.tensors else None,
    )
    layer = files.in_path(_NUMBER)
    is_known = layer is not None and files.in_path(_MLP_TO_MLP) is not None
    place = f"blocks.{layer}.mlp.hook_in" if is_known else None
    output = f"blocks.{layer}.hook_mlp_out" if is_known else None
    return SaeDescription(
        format="CIRCUIT_TRACER",
        architecture=architecture,
        sae_class="JumpReLUSae" if jumps else "ReLUSae",
        n_inputs=sizes.n_inputs,
        n_latents=sizes.n_latents,
        k=None,
        files=(name,),
        weights=plan,
        place=place,
        is_transcoder=True,
        output_place=output,
        computed_in=narrow_dtype(plan),
        metadata=metadata_of(architecture, plan, place=place, output_place=output),
    )
