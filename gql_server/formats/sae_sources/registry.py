"""The formats that are read, and which of them files are in."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from gql_server.formats.sae_sources import (
    circuit_tracer,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    linear_pairs,
    llama_scope,
    llamascopium,
    mi_crow,
    openai,
    qwen_scope,
    sae_lens,
    sparsify,
)
from gql_server.formats.sae_sources.description import SaeDescription
from gql_server.formats.sae_sources.refusing import NotRepresentable, listed
from gql_server.formats.sae_sources.source_files import CHECKPOINT_SUFFIXES, SourceFiles
from gql_server.formats.sae_sources.tensor_files import TensorFile


@dataclass(frozen=True)
class Format:
    """A format in which SAEs are published."""

    title: str
    """Its name for people."""
    layout: str
    """Its files, for people."""
    matches: Callable[[SourceFiles], bool]
    """Whether files are in it, told by names, configurations and headers."""
    describe: Callable[[SourceFiles], SaeDescription]
    """Describes the SAE, or raises NotRepresentable with why it cannot be taken over."""
    files: frozenset[str]
    """Names of its files, where they are fixed: what the nearest format is told by."""
    tensors: frozenset[str]
    """Names of its tensors."""


FORMATS = {
    "SAE_LENS": Format(
        "SAELens",
        "cfg.json and sae_weights.safetensors",
        sae_lens.matches,
        sae_lens.describe,
        frozenset({"cfg.json", "sae_weights.safetensors"}),
        frozenset({"W_enc", "b_enc", "W_dec", "b_dec"}),
    ),
    "MI_CROW": Format(
        "mi_crow",
        "a .pt file with sae_state_dict and mi_crow_metadata",
        mi_crow.matches,
        mi_crow.describe,
        frozenset(),
        frozenset({mi_crow.STATE, mi_crow.METADATA}),
    ),
    "GEMMA_SCOPE": Format(
        "Gemma Scope",
        "params.npz with W_enc, b_enc, W_dec, b_dec and threshold",
        gemma_scope.matches,
        gemma_scope.describe,
        frozenset({"params.npz"}),
        frozenset(gemma_scope.TENSORS),
    ),
    "GEMMA_SCOPE_2": Format(
        "Gemma Scope 2",
        "params.safetensors, with config.json",
        gemma_scope_2.matches,
        gemma_scope_2.describe,
        frozenset({gemma_scope_2.WEIGHTS}),
        frozenset(name.lower() for name in gemma_scope.TENSORS),
    ),
    "LLAMASCOPIUM": Format(
        "llamascopium",
        "config.json with sae_type, and sae_weights.safetensors with W_E, b_E, W_D and b_D",
        llamascopium.matches,
        llamascopium.describe,
        frozenset({"config.json", "sae_weights.safetensors"}),
        frozenset({"W_E", "b_E", "W_D"}),
    ),
    "LLAMA_SCOPE": Format(
        "Llama Scope",
        "hyperparams.json and checkpoints/final.safetensors; of R1-Distill, config.json and"
        " sae_weights.safetensors",
        llama_scope.matches,
        llama_scope.describe,
        frozenset({"hyperparams.json", "checkpoints/final.safetensors"}),
        frozenset({"encoder.weight", "encoder.bias", "decoder.weight"}),
    ),
    "SPARSIFY": Format(
        "sparsify",
        "cfg.json and sae.safetensors",
        sparsify.matches,
        sparsify.describe,
        frozenset({sparsify.CONFIG, sparsify.WEIGHTS}),
        frozenset(sparsify.TENSORS),
    ),
    "OPENAI": Format(
        "OpenAI's sparse_autoencoder",
        "a .pt file with encoder.weight, pre_bias, latent_bias and decoder.weight",
        openai.matches,
        openai.describe,
        frozenset(),
        frozenset(openai.TENSORS),
    ),
    "GOODFIRE": Format(
        "Goodfire",
        "a .pth file with encoder_linear and decoder_linear",
        linear_pairs.matches_goodfire,
        linear_pairs.describe_goodfire,
        frozenset(),
        frozenset(linear_pairs.GOODFIRE),
    ),
    "DICTIONARY_LEARNING": Format(
        "dictionary_learning",
        "ae.pt, with config.json",
        dictionary_learning.matches,
        dictionary_learning.describe,
        frozenset({"ae.pt", "config.json"}),
        frozenset({"encoder.weight", "encoder.bias", "decoder.weight", "b_dec"}),
    ),
    "QWEN_SCOPE": Format(
        "Qwen-Scope",
        "layerN.sae.pt with W_enc, W_dec, b_enc and b_dec",
        qwen_scope.matches,
        qwen_scope.describe,
        frozenset(),
        frozenset(qwen_scope.TENSORS),
    ),
    "QRESEARCH": Format(
        "qresearch",
        "a .pt file with encoder and decoder, each with its bias",
        linear_pairs.matches_qresearch,
        linear_pairs.describe_qresearch,
        frozenset(),
        frozenset(linear_pairs.QRESEARCH),
    ),
    "CIRCUIT_TRACER": Format(
        "circuit-tracer",
        "layer_N.safetensors with W_enc, b_enc, W_dec and b_dec",
        circuit_tracer.matches,
        circuit_tracer.describe,
        frozenset(),
        frozenset(circuit_tracer.TENSORS) | {circuit_tracer.THRESHOLD},
    ),
}
"""By what SaeSourceFormat calls them; the first that matches counts."""
MAX_CANDIDATES = 10
INSIDE = ("checkpoints",)
"""Directories whose files belong to the SAE of the directory that they are in."""


def find(files: SourceFiles) -> SaeDescription:
    """Find out the format, and describe the SAE. NotRepresentable where it is in none, or cannot be taken."""
    found = matching(files)
    if found is None:
        raise NotRepresentable(_in_none(files))
    return found.describe(files)


def matching(files: SourceFiles) -> Format | None:
    """Return the format that files are in; None where it is none of these."""
    return next((found for found in FORMATS.values() if found.matches(files)), None)


def describe(format: str, files: SourceFiles) -> SaeDescription:
    """Describe an SAE in a format; raises NotRepresentable."""
    return FORMATS[format].describe(files)


def is_weights(name: str) -> bool:
    """Whether a file of that name may have tensors."""
    return name.endswith((".safetensors", ".npz", *CHECKPOINT_SUFFIXES))


def holds_an_sae(names: frozenset[str]) -> bool:
    """Whether a directory with files of these names may be one to name."""
    return any(is_weights(name) and "optim" not in name for name in names)


def candidates(directories: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return what may be SAEs in a directory: files of weights beside one another, and directories.

    ``directories`` are the directory itself, with an empty path, and those below it, by their paths below it;
    each with its files' names.
    """
    found: dict[str, None] = {}
    for path, names in directories:
        if not path:
            weights = sorted(name for name in names if is_weights(name))
            found |= dict.fromkeys(weights if len(weights) > 1 else [])
        elif holds_an_sae(frozenset(names)):
            inner = PurePosixPath(path)
            found[str(inner.parent if inner.name in INSIDE else inner)] = None
    return list(found)


def choose_one(candidates: list[str]) -> NotRepresentable:
    """Return the refusal of a directory that holds several SAEs, or one further down."""
    shown = "; ".join(candidates[:MAX_CANDIDATES])
    more = len(candidates) - MAX_CANDIDATES
    what = "one file or directory" if len(candidates) == 1 else f"{len(candidates):,} files and directories"
    return NotRepresentable(
        f"The directory holds {what} that may be SAEs: name one, such as {shown}"
        + (f" and {more:,} more." if more > 0 else ".")
    )


def _in_none(files: SourceFiles) -> str:
    """Say what was found, which formats there are, and what the nearest one has that is not there."""
    names = sorted(files.names) if files.chosen is None else [files.chosen]
    tensors = [_tensors(files, name) for name in names if is_weights(name)][:2]
    found = {key for file in tensors for key in (*file.tensors, *file.values)}
    said = "".join(f" {file.name} has {file.shapes() or 'no tensors by their names'}." for file in tensors)
    nearest = max(FORMATS.values(), key=lambda one: _nearness(one, files, found))
    lacks = sorted(nearest.files - files.names) + sorted(nearest.tensors - found)
    return (
        f"It is in no format that is known here. Found: {listed(names) or 'no files'}.{said}"
        f" The nearest format is {nearest.title} ({nearest.layout})"
        + (f", of which {listed(lacks)} is missing." if lacks else ".")
        + f" Known are {', '.join(one.title for one in FORMATS.values())}; see docs/import-export.md."
    )


def _tensors(files: SourceFiles, name: str) -> TensorFile:
    """Return a file's tensors, and none where it is damaged."""
    try:
        return files.tensors(name)
    except NotRepresentable:
        return TensorFile(name, {})


def _nearness(one: Format, files: SourceFiles, tensors: set[str]) -> float:
    """Return the share of names that files and a format have in common, of all that either has."""
    wanted, found = one.files | one.tensors, set(files.names) | tensors
    return len(wanted & found) / len(wanted | found)
