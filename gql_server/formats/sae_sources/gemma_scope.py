"""Gemma Scope (Lieberum et al. 2024, for Gemma 2): params.npz, whose path says what it is.

a = z H(z - threshold) for z = x W_enc + b_enc, without the decoder bias subtracted; x_hat = a W_dec + b_dec.
The authors' normalization is in the weights.
"""

from dataclasses import replace

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
    Threshold,
    WeightsPlan,
    metadata_of,
)
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import SourceFiles
from gql_server.formats.sae_sources.tensor_files import TensorFile

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
_REPOSITORY = r"gemma-scope-([0-9]+b-(?:pt|it))-(?:res|mlp|att|transcoders)(?:-all)?(?:/|$)"
_KIND = r"gemma-scope-[0-9]+b-(?:pt|it)-(res|mlp|att|transcoders)(?:-all)?(?:/|$)"


def matches(files: SourceFiles) -> bool:
    """Whether there is one file of arrays."""
    return files.pick_like(r".+\.npz") is not None


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE by its file's path. NotRepresentable says why it cannot be taken over."""
    name = files.pick_like(r".+\.npz")
    if name is None:
        raise NotRepresentable("The directory has no params.npz, or several: name one.")
    kind = files.in_path(_KIND)
    if files.in_path(r"(?:^|/)(embedding)/"):
        raise NotRepresentable(
            "It is for embeddings that are scaled by the square root of their width, which differs between"
            " versions of transformers: no layer here is known to put them out."
        )
    file = files.tensors(name)
    plan = plan_of(file)
    layer = files.in_path(r"layer_(\d{1,4})/")
    output = None
    if kind == "transcoders" and layer is not None:
        output = f"model.layers.{layer}.post_feedforward_layernorm.output"
    return SaeDescription(
        format="GEMMA_SCOPE",
        architecture="jumprelu",
        sae_class="JumpReLUSae",
        n_inputs=file.size(spelled(file, "b_dec")),
        n_latents=file.size(spelled(file, "b_enc")),
        k=None,
        files=(name,),
        weights=plan,
        place=_place(kind, layer),
        is_transcoder=None if kind is None else kind == "transcoders",
        output_place=output,
        prepends_bos=True,
        metadata=metadata_of(
            "jumprelu",
            plan,
            model_name=_model(files.in_path(_REPOSITORY)),
            place=_place(kind, layer),
            output_place=output,
            l0=files.in_path(r"average_l0_(\d{1,6})"),
            context_size=1024,
            prepend_bos=True,
        ),
    )


def spelled(file: TensorFile, name: str) -> str:
    """Return a tensor's name as the file spells it, with a capital or without."""
    return name if name in file.tensors else name.lower()


def plan_of(file: TensorFile, *, skip: str | None = None) -> WeightsPlan:
    """Return how a file's tensors become a JumpReLU SAE that does not subtract its decoder bias.

    ``skip`` is the name of a transcoder's skip connection [n_inputs, n_outputs].
    """
    encoder, encoder_bias, decoder, decoder_bias, threshold = (spelled(file, name) for name in TENSORS)
    wanted = {encoder, encoder_bias, decoder, decoder_bias, threshold} | ({skip} if skip else set())
    file.check_names(wanted, set(), "JumpReLU")
    sizes = Sizes(file.size(decoder_bias), file.size(encoder_bias))
    names = (encoder, encoder_bias, decoder, decoder_bias)
    plan = sizes.plan(file, names, subtracts_bias=False, encoder_by_input=True)
    return replace(
        plan,
        threshold=Threshold(sizes.latents(file, threshold)),
        skip=sizes.skip(file, skip, by_input=True) if skip else None,
    )


def _place(kind: str | None, layer: str | None) -> str | None:
    if kind is None or layer is None:
        return None
    if kind == "transcoders":  # The gain is in the MLP's weights, as they say.
        return f"blocks.{layer}.ln2.hook_normalized"
    place = {"res": "output", "mlp": "post_feedforward_layernorm.output", "att": "self_attn.o_proj.input"}
    return f"model.layers.{layer}.{place[kind]}"


def _model(size_and_kind: str | None) -> str | None:
    if size_and_kind is None:
        return None
    return "google/gemma-2-" + size_and_kind.removesuffix("-pt")
