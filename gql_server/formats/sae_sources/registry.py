"""The formats that are read, and which of them files are in."""

from collections.abc import Callable
from dataclasses import dataclass

from gql_server.formats.sae_sources import mi_crow, sae_lens
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
}
"""By what SaeSourceFormat calls them; the first that matches counts."""
MAX_CANDIDATES = 10


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


def choose_one(candidates: list[str]) -> NotRepresentable:
    """Return the refusal of a directory that holds several SAEs, or one further down."""
    shown = "; ".join(candidates[:MAX_CANDIDATES])
    more = len(candidates) - MAX_CANDIDATES
    return NotRepresentable(
        f"The directory holds {len(candidates):,} of what may be SAEs: name one of them. {shown}"
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
    """Return how much of a format's names are there, and how few others."""
    wanted, found = one.files | one.tensors, set(files.names) | tensors
    return len(wanted & found) / len(wanted) if wanted else 0.0
