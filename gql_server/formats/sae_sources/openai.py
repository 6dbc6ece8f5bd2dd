"""OpenAI's sparse_autoencoder (Gao et al. 2024, for GPT-2 small): a state dict with its activation function.

a = relu(encoder(x - pre_bias) + latent_bias), x_hat = decoder(a) + pre_bias.
"""

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
    metadata_of,
    narrow_dtype,
)
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles

TENSORS = {"encoder.weight", "pre_bias", "latent_bias", "decoder.weight"}
_STATISTICS = {"stats_last_nonzero"}


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
    if activation == "TopK":
        raise NotRepresentable(
            "Its activation function is TopK, before which it normalizes each token by its mean and standard"
            " deviation: that cannot go into the weights."
        )
    if activation != "ReLU":
        raise NotRepresentable(
            f"The activation function {shown(activation)} has no counterpart here: ReLU can be imported."
        )
    file.check_names(TENSORS, _STATISTICS, "OpenAI's")
    sizes = Sizes(file.size("pre_bias"), file.size("latent_bias"))
    names = ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias")
    plan = sizes.plan(file, names, subtracts_bias=True, decoder_by_input=True)
    return SaeDescription(
        format="OPENAI",
        architecture="ReLU",
        sae_class="ReLUSae",
        n_inputs=sizes.n_inputs,
        n_latents=sizes.n_latents,
        k=None,
        files=(name,),
        weights=plan,
        computed_in=narrow_dtype(plan),
        metadata=metadata_of("ReLU", plan),
    )
