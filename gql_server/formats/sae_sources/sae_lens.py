"""SAELens' own format: cfg.json and sae_weights.safetensors.

The formulas are those of sae-lens 6: ``StandardSAE``, ``TopKSAE``, ``JumpReLUSAE`` and ``GatedSAE``. With
``rescale_acts_by_decoder_norm`` a TopKSAE multiplies its pre-activations by the lengths of the decoder's
rows, and divides its latents by them again before it decodes: that is the same as other weights, which are
used here. A transcoder has the latents of a StandardSAE or a JumpReLUSAE that subtracts nothing; with a skip
connection x W_skipᵀ is added, with x as it is.
"""

from dataclasses import replace

from gql_server.formats.sae_classes import IMPORTED_AS
from gql_server.formats.sae_lens_config import CFG_FILE, WEIGHTS_FILE, SaeLensConfig, read
from gql_server.formats.sae_sources.description import (
    MagnitudeParts,
    SaeDescription,
    Sizes,
    Threshold,
    UnitRows,
    WeightsPlan,
)
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import SourceFiles
from gql_server.formats.sae_sources.tensor_files import FLOAT_BYTES, TensorFile

SCALING_FACTOR = "scaling_factor"
"""A tensor of old files; all ones if the SAE was not scaled."""


def matches(files: SourceFiles) -> bool:
    """Whether there are SAELens' two files."""
    return files.names >= {CFG_FILE, WEIGHTS_FILE} and files.chosen in (None, CFG_FILE, WEIGHTS_FILE)


def describe(files: SourceFiles) -> SaeDescription:
    """Describe the SAE of a directory. NotRepresentable says why it cannot be taken over."""
    for name in (CFG_FILE, WEIGHTS_FILE):
        if name not in files.names:
            raise NotRepresentable(
                f"The directory has no {name}: name a directory with {CFG_FILE} and {WEIGHTS_FILE}."
            )
    config = read(files.json(CFG_FILE))
    plan = _plan(config, files.tensors(WEIGHTS_FILE))
    folded = [plan.unit_rows.note] if plan.unit_rows else []
    return SaeDescription(
        format="SAE_LENS",
        architecture=config.architecture,
        sae_class=IMPORTED_AS[config.latents],
        n_inputs=config.n_inputs,
        n_latents=config.n_latents,
        k=config.k,
        files=(CFG_FILE, WEIGHTS_FILE),
        weights=plan,
        input_normalization=config.input_normalization,
        place=config.metadata.get("hook_name"),
        is_transcoder=config.n_outputs is not None,
        output_place=config.metadata.get("hook_name_out") if config.n_outputs is not None else None,
        n_outputs=config.n_outputs,
        prepends_bos=config.prepends_bos,
        computed_in=config.dtype if FLOAT_BYTES[config.dtype] < FLOAT_BYTES["float32"] else None,
        scaled_by=config.scaled_by,
        says_centered=config.says_centered,
        notes=folded,
        notes_on_processing=config.notes_on_processing,
        metadata={"architecture": config.architecture, "dtype": config.dtype} | config.metadata,
    )


def _plan(config: SaeLensConfig, file: TensorFile) -> WeightsPlan:
    is_gated = config.architecture == "gated"
    names = ("W_enc", "b_gate" if is_gated else "b_enc", "W_dec", "b_dec")
    wanted = set(names) | ({"r_mag", "b_mag"} if is_gated else set())
    wanted |= {"threshold"} if config.latents == "jumprelu" else set()
    wanted |= {"W_skip"} if config.has_skip else set()
    file.check_names(wanted, {SCALING_FACTOR}, config.architecture)
    sizes = Sizes(config.n_inputs, config.n_latents, "d_in and d_sae", config.n_outputs)
    plan = replace(
        sizes.plan(file, names, subtracts_bias=config.subtracts_bias, encoder_by_input=True),
        threshold=Threshold(sizes.latents(file, "threshold")) if "threshold" in wanted else None,
        magnitudes=(
            MagnitudeParts(sizes.latents(file, "r_mag"), sizes.latents(file, "b_mag")) if is_gated else None
        ),
        unit_rows=(
            UnitRows("rescale_acts_by_decoder_norm", "SAELens", config.dtype) if config.rescales else None
        ),
        ones=file.tensors.get(SCALING_FACTOR),
        skip=sizes.skip(file, "W_skip") if config.has_skip else None,
    )
    for name in sorted(wanted):
        _check_not_rounded(name, file.tensors[name].dtype, config.dtype)
    return plan


def _check_not_rounded(name: str, stored: str, dtype: str) -> None:
    # sae-lens turns the weights into cfg.json's dtype: nothing changes where that is as wide, in both parts.
    if stored != dtype and FLOAT_BYTES[stored] >= FLOAT_BYTES[dtype]:
        raise NotRepresentable(
            f"The tensor {name} is {stored}, which SAELens would round to the {dtype} of cfg.json: say"
            f" {stored} there, if the weights as they are stored are the ones that are meant."
        )
