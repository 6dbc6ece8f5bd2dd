"""Gemma Scope 2 (for Gemma 3): params.safetensors, with a config.json or a path that says what it is.

It computes as Gemma Scope does; a transcoder may add x W_skip (affine_skip_connection, [d_in, d_out]).
"""

from typing import Any

from gql_server.formats.sae_sources.description import SaeDescription, metadata_of, narrow_dtype
from gql_server.formats.sae_sources.gemma_scope import plan_of, spelled
from gql_server.formats.sae_sources.places import place_of
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles, flag, number, text

WEIGHTS, CONFIG = "params.safetensors", "config.json"
SKIP = "affine_skip_connection"
_SEVERAL = r"params_layer_\d+\.safetensors"
_KINDS = r"(?:^|/)(resid_post|attn_out|mlp_out|transcoder|crosscoder|clt)(?:_all)?(?:/|$)"


def matches(files: SourceFiles) -> bool:
    """Whether there is its file of weights, or one of those of several layers."""
    return files.pick(WEIGHTS) is not None or any(
        name.startswith("params_layer_") and name.endswith(".safetensors") for name in files.names
    )


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE. NotRepresentable says why it cannot be taken over."""
    if files.pick(WEIGHTS) is None:
        raise NotRepresentable(
            "It is a cross-layer transcoder or a crosscoder, which reads or writes several layers: only"
            " SAEs of one layer can be imported."
        )
    config = files.json_if_any(CONFIG)
    kind = files.in_path(_KINDS)
    place = _place(config, kind, files.in_path(r"layer_(\d{1,4})_"))
    is_transcoder = _is_transcoder(config, kind)
    said = text(config, "hf_hook_point_out")
    output = said or (_written(kind, files.in_path(r"layer_(\d{1,4})_")) if is_transcoder else place)
    _check(config, kind, place, output, is_transcoder=is_transcoder)
    file = files.tensors(WEIGHTS)
    has_skip = SKIP in file.tensors if config.get("affine_connection") is None else _is_affine(config)
    if has_skip and not is_transcoder:
        raise NotRepresentable("It has an affine connection beside its latents, which no SAE here has.")
    plan = plan_of(file, skip=SKIP if has_skip else None)
    return SaeDescription(
        format="GEMMA_SCOPE_2",
        architecture="jumprelu",
        sae_class="JumpReLUSae",
        n_inputs=file.size(spelled(file, "b_dec")),
        n_latents=file.size(spelled(file, "b_enc")),
        k=None,
        files=(*([CONFIG] if CONFIG in files.names else []), WEIGHTS),
        weights=plan,
        place=place,
        is_transcoder=is_transcoder,
        output_place=output if is_transcoder else None,
        prepends_bos=True,
        computed_in=narrow_dtype(plan),
        metadata=metadata_of(
            "jumprelu",
            plan,
            model_name=text(config, "model_name"),
            place=place,
            output_place=output if is_transcoder else None,
            l0=number(config, "l0"),
            prepend_bos=True,
        ),
    )


def _place(config: dict[str, Any], kind: str | None, layer: str | None) -> str | None:
    said = text(config, "hf_hook_point_in")
    if said is not None or layer is None:
        return said
    module = {
        "resid_post": "output",
        "mlp_out": "post_feedforward_layernorm.output",
        "attn_out": "self_attn.o_proj.input",
        "transcoder": "pre_feedforward_layernorm.output",
    }.get(kind or "")
    return module and f"model.layers.{layer}.{module}"


def _written(kind: str | None, layer: str | None) -> str | None:
    """Return where a transcoder writes whose configuration does not say it."""
    if kind != "transcoder" or layer is None:
        return None
    return f"model.layers.{layer}.post_feedforward_layernorm.output"


def _is_transcoder(config: dict[str, Any], kind: str | None) -> bool:
    return bool(config.get("type", kind if kind == "transcoder" else "sae") == "transcoder")


def _is_affine(config: dict[str, Any]) -> bool:
    return flag(CONFIG, config, "affine_connection", default=False)


def _check(
    config: dict[str, Any], kind: str | None, place: str | None, output: str | None, *, is_transcoder: bool
) -> None:
    if config.get("type", "sae") not in ("sae", "transcoder") or kind in ("crosscoder", "clt"):
        raise NotRepresentable(
            f"It is a {shown(config.get('type', kind))}, which reads or writes several layers: only SAEs and"
            " transcoders, which read one layer and write one, can be imported."
        )
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise NotRepresentable(
            f"{CONFIG}: the architecture is {shown(config['architecture'])}, not jump_relu."
        )
    if not is_transcoder and place != output:
        raise NotRepresentable(
            f"{CONFIG} says that it is an SAE, but also that it goes from {shown(place)} to {shown(output)},"
            " as a transcoder does."
        )
    check_places(place, output)


def check_places(*places: str | None) -> None:
    """Raise NotRepresentable where a source reads or writes a place that is no module's output."""
    for name in places:
        found = place_of(name)
        if found is not None and found.inside is not None:
            raise NotRepresentable(f"It is for {found.inside}, which no layer here puts out.")
