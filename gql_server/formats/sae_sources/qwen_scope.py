"""Qwen-Scope: layerN.sae.pt, one file a layer; both matrices are the transposes of SAELens'.

The k largest of relu(W_enc x + b_enc) are kept, without the decoder bias subtracted; x_hat = W_dec a + b_dec.
"""

from gql_server.formats.sae_sources.description import SaeDescription, Sizes, metadata_of
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import SourceFiles, text, whole_number

CONFIG = "config.json"
TENSORS = {"W_enc", "W_dec", "b_enc", "b_dec"}


def matches(files: SourceFiles) -> bool:
    """Whether there is one file with these four tensors."""
    name = files.checkpoint
    return name is not None and files.tensors(name).tensors.keys() == TENSORS


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE. NotRepresentable says why it cannot be taken over."""
    name = files.checkpoint
    if name is None:
        raise NotRepresentable("Name one of the layers' files, such as layer12.sae.pt.")
    file, config = files.tensors(name), files.json_if_any(CONFIG)
    sizes = Sizes(file.size("b_dec"), file.size("b_enc"))
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    plan = sizes.plan(file, names, subtracts_bias=False, decoder_by_input=True)
    layer = files.in_path(r"layer(\d{1,4})\.sae\.pt$")
    place = f"model.layers.{layer}" if layer else None
    return SaeDescription(
        format="QWEN_SCOPE",
        architecture="topk",
        sae_class="BiasedTopKSae",
        n_inputs=sizes.n_inputs,
        n_latents=sizes.n_latents,
        k=_k(files),
        files=(*([CONFIG] if CONFIG in files.names else []), name),
        weights=plan,
        place=place,
        metadata=metadata_of("topk", plan, place=place, model_name=text(config, "base_model")),
    )


def _k(files: SourceFiles) -> int:
    config = files.json_if_any(CONFIG)
    if config.get("k") is not None:
        return whole_number(CONFIG, config, "k")
    said = files.in_path(r"L0_(\d{1,6})(?:/|$)")
    if said is None or int(said) < 1:
        raise NotRepresentable(
            "k is said neither by a config.json beside the file nor by the path, such as …-W32K-L0_50:"
            " name it below a directory of that name, or put a config.json with k beside it."
        )
    return int(said)
