"""SAEs of two linear layers in a .pt or .pth file: Goodfire's and qresearch's.

a = relu(encoder(x)), x_hat = decoder(a), each with its bias, and nothing is subtracted before.
"""

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
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
    name = files.checkpoint
    return set() if name is None else set(files.tensors(name).tensors)


def _describe(files: SourceFiles, format: str, suffix: str) -> SaeDescription:
    name = files.checkpoint
    if name is None:
        raise NotRepresentable("Name the file of weights.")
    file = files.tensors(name)
    encoder, decoder = f"encoder{suffix}", f"decoder{suffix}"
    sizes = Sizes(file.size(f"{decoder}.bias"), file.size(f"{encoder}.bias"))
    names = (f"{encoder}.weight", f"{encoder}.bias", f"{decoder}.weight", f"{decoder}.bias")
    plan = sizes.plan(file, names, subtracts_bias=False, decoder_by_input=True)
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
