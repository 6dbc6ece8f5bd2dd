"""Looking at what a client names to import: which files there are, their format, and what they say."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gql_server.artifacts.files import open_inside, resolve_inside
from gql_server.errors import InvalidInput
from gql_server.formats.sae_sources import registry
from gql_server.formats.sae_sources.description import SaeDescription
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.source_files import SourceFiles
from gql_server.services import quota
from gql_server.services.requests import ImportSaeRequest
from gql_server.settings import Settings

PATHS = {"SAE_LENS": ["source", "saeLens"], "MI_CROW": ["source", "miCrow"], None: ["source", "path"]}
"""The field of the input, by the format that it asks for."""
MAX_ENTRIES = 5000
"""Limit on names of files and directories that are looked at."""
_MAX_DEPTH = 4
_COPIES = 3
"""What is read, and the checkpoint that comes of it, which may be twice as large."""
_INSIDE = ("checkpoints",)
"""Directories whose files belong to the SAE of the directory that they are in."""


@dataclass(frozen=True)
class FoundSae:
    """An SAE that can be imported."""

    format: str
    """A key of registry.FORMATS."""
    files: dict[str, Path]
    """Real ones and each under a model directory, by name, the configuration first."""
    place: str | None
    """Where its inputs come from, as the source names it."""
    n_inputs: int


def look(settings: Settings, request: ImportSaeRequest, width: int | None) -> FoundSae:
    """Find the SAE that a request names, and check what is told without reading its weights; takes its time.

    Raises:
        InvalidInput: At the field of the source, with why it cannot be imported.
    """
    path = PATHS[request.format]
    try:
        described, directory = _describe(settings, request)
        described.check_fits(width, settings.max_latents)
        files = {name: _plain_file(_inside(settings, directory / name)) for name in described.files}
        n_bytes = sum(file.stat().st_size for file in files.values())
    except NotRepresentable as error:
        raise InvalidInput.at(path, error.reason) from error
    except OSError as error:
        raise InvalidInput.at(path, f"The files cannot be read: {error.strerror}.") from error
    quota.check(path, _COPIES * n_bytes, "The SAE's files", settings)
    return FoundSae(described.format, files, described.place, described.n_inputs)


def roots(settings: Settings) -> list[Path]:
    """Return the real paths of the model directories."""
    return [root.resolve() for root in settings.model_dirs]


def _describe(settings: Settings, request: ImportSaeRequest) -> tuple[SaeDescription, Path]:
    found = resolve_inside(request.path, settings.model_dirs)
    if found is None:
        raise NotRepresentable(
            "There is no such directory or file under one of this server's model directories."
        )
    directory, chosen = (found, None) if found.is_dir() else _directory_of(settings, request.path, found)

    @contextmanager
    def opened(name: str) -> Iterator[BinaryIO]:
        with open_inside(_plain_file(_inside(settings, directory / name)), roots(settings)) as file:
            yield file

    files = SourceFiles(request.path, _names(directory), chosen, opened)
    if request.format is not None:
        return registry.describe(request.format, files), directory
    if chosen is None and registry.matching(files) is None:
        candidates = _candidates(directory)
        if candidates:
            raise registry.choose_one(candidates)
    return registry.find(files), directory


def _directory_of(settings: Settings, given: str, found: Path) -> tuple[Path, str]:
    """Return the directory in which a file was named, which a link may be in, and its name there."""
    path = Path(given)
    for candidate in [path] if path.is_absolute() else [root / path for root in roots(settings)]:
        if resolve_inside(str(candidate), settings.model_dirs) == found and candidate.name:
            above = resolve_inside(str(candidate.parent), settings.model_dirs)
            if above is not None:
                return above, candidate.name
    return found.parent, found.name


def _names(directory: Path) -> list[str]:
    """Return the names of a directory's files, and of those in a directory that belongs to it."""
    names: list[str] = []
    for inner in ("", *_INSIDE):
        if inner and not (directory / inner).is_dir():
            continue
        with os.scandir(directory / inner) as entries:
            for entry in entries:
                if len(names) >= MAX_ENTRIES:
                    raise NotRepresentable(
                        f"The directory has more than {MAX_ENTRIES:,} entries: name the SAE's own files."
                    )
                names.append(str(Path(inner, entry.name)))
    return names


def _candidates(directory: Path) -> list[str]:
    """Return what may be SAEs in a directory: files of weights beside one another, and directories."""
    found: dict[str, None] = {}
    seen = 0
    for above, directories, names in os.walk(directory):
        depth = len(Path(above).relative_to(directory).parts)
        directories[:] = sorted(directories) if depth < _MAX_DEPTH else []
        seen += len(directories) + len(names)
        if seen > MAX_ENTRIES:
            break
        if depth == 0:
            weights = [name for name in names if registry.is_weights(name)]
            found |= dict.fromkeys(sorted(weights) if len(weights) > 1 else [])
        elif registry.holds_an_sae(frozenset(names)):
            inner = Path(above).relative_to(directory)
            found[str(inner.parent if inner.name in _INSIDE else inner)] = None
    return list(found)


def _inside(settings: Settings, path: Path) -> Path:
    """Return the real path of a file of a directory, which may be a link to another place."""
    found = resolve_inside(str(path), settings.model_dirs)
    if found is None:
        raise NotRepresentable(
            f"The directory has no {path.name}, or one that is a link out of this server's model directories."
        )
    return found


def _plain_file(path: Path) -> Path:
    if not path.is_file():
        raise NotRepresentable(f"{path.name!r} is not a file.")
    return path
