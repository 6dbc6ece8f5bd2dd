"""What takes how much of the artifact directory."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path, PurePath

from gql_server import ids
from gql_server.artifacts.disk import FileSizes

_DATABASE = "gql_server.sqlite3"
"""The beginning of the names of its files, and of the copies that migrations make of it."""


class ArtifactKind(StrEnum):
    """What files are."""

    ACTIVATIONS = "ACTIVATIONS"
    CHECKPOINTS = "CHECKPOINTS"
    INDEXES = "INDEXES"
    DATASETS = "DATASETS"
    EXPORTS = "EXPORTS"
    LANGUAGE_MODELS = "LANGUAGE_MODELS"
    DATABASE = "DATABASE"
    OTHER = "OTHER"


def kind_of(path: PurePath) -> ArtifactKind:
    """Return what a file is, by its path from the artifact directory; docs/artifacts.md has the layout."""
    match path.parts:
        case ("store", "runs", id, *_) if ids.kind_of(id) == ids.ACTIVATION_RUN:
            return ArtifactKind.ACTIVATIONS
        case ("store", "runs", id, *_) if ids.kind_of(id) == ids.NEURON_INDEX:
            return ArtifactKind.INDEXES
        case ("sae", _, _, "top_texts", *_):
            return ArtifactKind.INDEXES
        case ("sae", _, _, "exports", *_):
            return ArtifactKind.EXPORTS
        case ("sae", _, _, *_):
            return ArtifactKind.CHECKPOINTS
        case ("datasets", *_):
            return ArtifactKind.DATASETS
        case ("models", *_):
            return ArtifactKind.LANGUAGE_MODELS
        case (name,) if name.startswith(_DATABASE):
            return ArtifactKind.DATABASE
    return ArtifactKind.OTHER


def usage_by_kind(directory: Path, is_late: Callable[[], bool]) -> Mapping[ArtifactKind, int] | None:
    """Return the bytes of all files under a directory; None where it gets late before that is known.

    They count as in ``disk.used_bytes``: not where they go meanwhile, and once where they have several names.
    """
    total: Counter[ArtifactKind] = Counter()
    sizes = FileSizes()
    for parent, _, files in os.walk(directory):
        if is_late():
            return None
        inside = Path(parent).relative_to(directory)
        for name in files:
            total[kind_of(inside / name)] += sizes.of(Path(parent) / name)
    return {kind: total[kind] for kind in ArtifactKind}
