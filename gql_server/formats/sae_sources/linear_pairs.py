"""SAEs of two linear layers in a .pt or .pth file: Goodfire's and qresearch's.

a = relu(encoder(x)), x_hat = decoder(a), each with its bias, and nothing is subtracted before.
"""

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
    WeightsPlan,
    metadata_of,
    narrow_dtype,
)
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import SourceFiles

GOODFIRE = {f"{layer}_linear.{kind}" for layer in ("encoder", "decoder") for kind in ("weight", "bias")}
QRESEARCH = {f"{layer}.{kind}" for layer in ("encoder", "decoder") for kind in ("weight", "bias")}


def matches_goodfire(files: SourceFiles) -> bool:
    """Whether there is one file with Goodfire's four tensors."""
    return _names(files) == GOODFIRE


def describe_goodfire(files: SourceFiles) -> SaeDescription:
    """Describe an SAE of Goodfire's. NotRepresentable says why it cannot be taken over."""
    return _describe(files, "GOODFIRE", "_linear")


def matches_qresearch(files: SourceFiles) -> bool:
    """Whether there is one file with qresearch's four tensors."""
    return _names(files) == QRESEARCH


def describe_qresearch(files: SourceFiles) -> SaeDescription:
    """Describe an SAE of qresearch's. NotRepresentable says why it cannot be taken over."""
    return _describe(files, "QRESEARCH", "")


def _names(files: SourceFiles) -> set[str]:
    name = files.pick_like(r".+\.pth?")
    return set() if name is None else set(files.tensors(name).tensors)


def _describe(files: SourceFiles, format: str, suffix: str) -> SaeDescription:
    name = files.pick_like(r".+\.pth?")
    if name is None:
        raise NotRepresentable("Name the file of weights.")
    file = files.tensors(name)
    encoder, decoder = f"encoder{suffix}", f"decoder{suffix}"
    sizes = Sizes(file.size(f"{decoder}.bias"), file.size(f"{encoder}.bias"))
    plan = WeightsPlan(
        file=name,
        encoder_weight=sizes.matrix(file, f"{encoder}.weight"),
        encoder_bias=sizes.latents(file, f"{encoder}.bias"),
        decoder_weight=sizes.matrix(file, f"{decoder}.weight", by_input=True),
        decoder_bias=sizes.inputs(file, f"{decoder}.bias"),
        subtracts_bias=False,
    )
    layer = files.in_path(r"-l(\d{1,4})\.pth?$")
    place = f"model.layers.{layer}" if layer else None
    return SaeDescription(
        format=format,
        architecture="relu",
        sae_class="ReLUSae",
        n_inputs=sizes.n_inputs,
        n_latents=sizes.n_latents,
        k=None,
        files=(name,),
        weights=plan,
        place=place,
        computed_in=narrow_dtype(plan),
        metadata=metadata_of("relu", plan, place=place),
    )
