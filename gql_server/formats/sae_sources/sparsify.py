"""EleutherAI's sparsify: cfg.json and sae.safetensors, a directory for each hookpoint.

z = relu((x - b_dec) W_encᵀ + b_enc), of which the k largest are kept; x_hat = a W_dec + b_dec. A transcoder
goes from a module's input to its output; with ``transcode`` nothing is subtracted, but the older ones, which
have ``skip_connection`` alone, do subtract; x W_skipᵀ is added, with x as it is.
"""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
    metadata_of,
    narrow_dtype,
)
from gql_server.formats.sae_sources.places import place_of
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles, flag, whole_number

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
SKIP = "W_skip"
TENSORS = {"encoder.weight", "encoder.bias", "W_dec", "b_dec"}


def matches(files: SourceFiles) -> bool:
    """Whether there are its two files."""
    return files.names >= {CONFIG, WEIGHTS} and files.chosen in (None, CONFIG, WEIGHTS)


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE. NotRepresentable says why it cannot be taken over."""
    cfg, file = files.json(CONFIG), files.tensors(WEIGHTS)
    _check(cfg)
    n_inputs, n_latents = whole_number(CONFIG, cfg, "d_in"), cfg.get("num_latents")
    if n_latents in (None, 0):
        n_latents = n_inputs * whole_number(CONFIG, cfg, "expansion_factor")
    else:
        n_latents = whole_number(CONFIG, cfg, "num_latents")
    k = whole_number(CONFIG, cfg, "k")
    _check_activation(cfg, k, n_latents)
    has_skip = flag(CONFIG, cfg, "skip_connection", default=False)
    transcodes = flag(CONFIG, cfg, "transcode", default=False)
    file.check_names(TENSORS | ({SKIP} if has_skip else set()), set(), "sparsify's")
    sizes = Sizes(n_inputs, n_latents, "d_in and num_latents")
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    plan = sizes.plan(file, names, subtracts_bias=not transcodes)
    plan = replace(plan, skip=sizes.skip(file, SKIP) if has_skip else None)
    hookpoint, is_transcoder = _hookpoint(files.path), transcodes or has_skip
    place = f"{hookpoint}.input" if hookpoint and is_transcoder else hookpoint
    return SaeDescription(
        format="SPARSIFY",
        architecture="topk",
        sae_class="BiasedTopKSae",
        n_inputs=n_inputs,
        n_latents=n_latents,
        k=k,
        files=(CONFIG, WEIGHTS),
        weights=plan,
        place=place,
        is_transcoder=is_transcoder,
        output_place=hookpoint if is_transcoder else None,
        computed_in=narrow_dtype(plan),
        metadata=metadata_of("topk", plan, place=place),
    )


def _check(cfg: dict[str, Any]) -> None:
    if flag(CONFIG, cfg, "signed", default=False):
        raise NotRepresentable("Its latents may be negative (signed), which no class here has.")


def _check_activation(cfg: dict[str, Any], k: int, n_latents: int) -> None:
    activation = cfg.get("activation", "topk")
    # Of one group, or of groups of one, the largest of each are the k largest.
    if activation == "groupmax" and k not in (1, n_latents):
        raise NotRepresentable(
            "Its activation function is groupmax, the largest latent of each of k groups, which no class here"
            " has."
        )
    if activation not in ("topk", "groupmax"):
        raise NotRepresentable(
            f"The activation function {shown(activation)} has no counterpart here: topk can be imported."
        )


def _hookpoint(path: str) -> str | None:
    """Return the module that a directory is named for; with several seeds the one above it."""
    parts = [part for part in PurePosixPath(path).parts if not part.startswith("seed")]
    names = [part for part in parts if part not in (CONFIG, WEIGHTS)]
    return names[-1] if names and place_of(names[-1]) is not None else None
