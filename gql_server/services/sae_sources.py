"""Looking at what a client names to import: which files there are, their format, and what they say."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from gql_server.artifacts.files import open_inside, resolve_inside
from gql_server.errors import InvalidInput
from gql_server.formats.sae_sources import registry
from gql_server.formats.sae_sources.description import SaeDescription, check_written
from gql_server.formats.sae_sources.input_processing import folded, lacks_scale
from gql_server.formats.sae_sources.places import Places
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


@dataclass(frozen=True)
class KnownLayer:
    """A layer of a language model, as its row describes it."""

    name: str
    kind: str
    depth: int | None
    width: int | None


@dataclass(frozen=True)
class Layers:
    """Which layers of a language model an SAE may read, and a transcoder write."""

    read: KnownLayer | None
    written: KnownLayer | None
    """Those that were named."""
    known: Sequence[KnownLayer]

    @property
    def places(self) -> Places:
        """Which of them the names of places mean."""
        return Places([asdict(layer) for layer in self.known])

    def of(self, name: str) -> KnownLayer:
        """Return the layer of a name."""
        return next(layer for layer in self.known if layer.name == name)


@dataclass(frozen=True)
class FoundSae:
    """An SAE that can be imported."""

    format: str
    """A key of registry.FORMATS."""
    files: dict[str, Path]
    """Real ones and each under a model directory, by name, the configuration first."""
    n_inputs: int
    place: str | None = None
    """Where its inputs come from, as the source names it."""
    named: str | None = None
    """The layer that this means, if it is one."""
    output: KnownLayer | None = None
    """The layer that a transcoder writes."""


def look(
    settings: Settings, request: ImportSaeRequest, width: int | None, layers: Layers | None = None
) -> FoundSae:
    """Find the SAE that a request names, and check what is told without reading its weights; takes its time.

    Raises:
        InvalidInput: At the field of the source, with why it cannot be imported, or at that of the output
            layer.
    """
    path = PATHS[request.format]
    named = output = None
    try:
        described, directory = _describe(settings, request)
        if layers is not None:
            named = layers.places.layer_of(described.place, takes_gain=described.reads_before_gain)
            output = _output(described, _read(described, named, layers), layers)
        described.check_fits(width, settings.max_latents, output.width if output else None)
        if reason := lacks_scale(described, request.input_scale):
            raise InvalidInput.at(["inputScale"], reason)
        folded(described, request.input_scale, request.center_inputs is True)
        files = {name: _plain_file(_inside(settings, directory / name)) for name in described.files}
        n_bytes = sum(file.stat().st_size for file in files.values())
    except NotRepresentable as error:
        raise InvalidInput.at(path, error.reason) from error
    except OSError as error:
        raise InvalidInput.at(path, f"The files cannot be read: {error.strerror}.") from error
    quota.check(path, _COPIES * n_bytes, "The SAE's files", settings)
    return FoundSae(described.format, files, described.n_inputs, described.place, named, output)


def _read(described: SaeDescription, named: str | None, layers: Layers) -> KnownLayer:
    """Return the layer that an SAE reads: the one of the request, or the one that its files name.

    Raises InvalidInput, at the field of the layer, where they name none that is here.
    """
    if layers.read is not None:
        return layers.read
    if described.place is None:
        raise InvalidInput.at(["layer"], "The files do not say which layer the SAE is for: name it.")
    if named is None:
        raise InvalidInput.at(
            ["layer"],
            f"The files name the place {described.place}, which is not known to be a layer of this language"
            " model: name the layer. LanguageModel.layers(kind: null) lists them.",
        )
    return layers.of(named)


def _output(described: SaeDescription, read: KnownLayer, layers: Layers) -> KnownLayer | None:
    """Return the layer that a transcoder writes, or None of an SAE.

    Raises InvalidInput, at the field of the output layer, where it is none, or not told.
    """
    written = layers.written
    if written is None and described.is_transcoder:
        name = layers.places.layer_of(described.output_place)
        if name is None:
            said = described.output_place or "nothing"
            raise InvalidInput.at(
                ["outputLayer"],
                f"It is a transcoder, and which layer it writes is not told for sure (its source says"
                f" {said}): name it, as Layer.name.",
            )
        written = layers.of(name)
    if written is not None and written.name == read.name:
        written = None
    try:
        check_written(described, written.name if written else None)
    except NotRepresentable as error:
        raise InvalidInput.at(["outputLayer"], error.reason) from error
    if written is not None and _is_before(written, read):
        raise InvalidInput.at(
            ["outputLayer"],
            f"The layer {written.name} has its output before {read.name}, which the transcoder reads: name a"
            " layer that comes later.",
        )
    return written


def _is_before(written: KnownLayer, read: KnownLayer) -> bool:
    """Whether it is certain; within a block only the model's passes tell the order, which the worker sees."""
    if written.depth is None or read.depth is None:
        return written.kind == "EMBEDDING" and read.kind != "EMBEDDING"
    is_inside = written.depth == read.depth and read.kind == "BLOCK" and written.kind != "BLOCK"
    return written.depth < read.depth or is_inside


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
    for inner in ("", *registry.INSIDE):
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
    """Return what may be SAEs in a directory."""
    return registry.candidates(_directories(directory))


def _directories(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Give a directory and those below it, by their paths below it, with their files' names."""
    seen = 0
    for above, directories, names in os.walk(directory):
        depth = len(Path(above).relative_to(directory).parts)
        directories[:] = sorted(directories) if depth < _MAX_DEPTH else []
        seen += len(directories) + len(names)
        if seen > MAX_ENTRIES:
            return
        yield (str(Path(above).relative_to(directory)) if depth else "", names)


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
