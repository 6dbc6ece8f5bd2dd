"""Gemma Scope 2 (for Gemma 3): params.safetensors, with a config.json or a path that says what it is.

It computes as Gemma Scope does.
"""

from typing import Any

from gql_server.formats.sae_sources.description import SaeDescription, metadata_of, narrow_dtype
from gql_server.formats.sae_sources.gemma_scope import plan_of, spelled
from gql_server.formats.sae_sources.places import place_of
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles, number, text

WEIGHTS, CONFIG = "params.safetensors", "config.json"
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
    _check(config, kind, place)
    file = files.tensors(WEIGHTS)
    plan = plan_of(file)
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
        prepends_bos=True,
        computed_in=narrow_dtype(plan),
        metadata=metadata_of(
            "jumprelu",
            plan,
            model_name=text(config, "model_name"),
            place=place,
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
    }.get(kind or "")
    return module and f"model.layers.{layer}.{module}"


def _check(config: dict[str, Any], kind: str | None, place: str | None) -> None:
    if config.get("type", "sae") != "sae" or kind in ("transcoder", "crosscoder", "clt"):
        raise NotRepresentable(
            f"It is a {shown(config.get('type', kind))}, which gives what another layer puts out: only SAEs,"
            " which give back their own layer's output, can be imported."
        )
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise NotRepresentable(
            f"{CONFIG}: the architecture is {shown(config['architecture'])}, not jump_relu."
        )
    if config.get("affine_connection"):
        raise NotRepresentable("It has an affine connection beside its latents, which no SAE here has.")
    check_output(place, config.get("hf_hook_point_out", place))


def check_output(place: Any, output: Any) -> None:
    """Raise NotRepresentable where a source reads one place and writes another, or no module's output."""
    if place != output:
        raise NotRepresentable(
            f"It is a transcoder, from {shown(place)} to {shown(output)}: only SAEs, which give back their"
            " own layer's output, can be imported."
        )
    found = place_of(place) if isinstance(place, str) else None
    if found is not None and found.inside is not None:
        raise NotRepresentable(f"It is for {found.inside}, which no layer here puts out.")
