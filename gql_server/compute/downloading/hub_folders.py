"""What lies at a path of a repository on the Hugging Face Hub: listed, with nothing got."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile, RepoFolder

from gql_server.formats.sae_sources import registry
from gql_server.formats.sae_sources.refusing import NotRepresentable, listed
from gql_server.model_files.files import commit_of
from gql_server.protocol.sources import HubSae

API_SECONDS = 30
"""Timeout of the question which commit a branch stands for."""
MAX_ENTRIES = 5000
"""Limit on names that are looked at."""
_MAX_DEPTH = 4
_NEAREST = 5
_PLAIN = re.compile(r"(?!\.{1,2}\Z)[^/\\\x00-\x1f]{1,255}")
"""A name of a file that may be one here."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at a commit."""

    path: str
    """In the repository."""
    byte_size: int
    sha256: str | None
    """Of a large file; None of one that git itself keeps."""


@dataclass(frozen=True)
class HubFolder:
    """A folder of a repository at a commit, or one file of it that was named."""

    path: str
    """In the repository; empty for all of it."""
    chosen: str | None
    files: Mapping[str, HubFile]
    """By name, also those of folders that belong to it (registry.INSIDE)."""


def commit_now(source: HubSae) -> str:
    """Return the commit that a source's revision stands for. Raises whatever huggingface_hub does."""
    if source.revision is not None and commit_of(source.revision) is not None:
        return source.revision
    found = HfApi().repo_info(source.repository, revision=source.revision, timeout=API_SECONDS).sha
    if found is None or commit_of(found) is None:
        raise ValueError("The Hub does not say which commit that is.")
    return found


def look(source: HubSae, commit: str) -> HubFolder:
    """List what lies at a source's path.

    Raises:
        NotRepresentable: Nothing does, or too much.
        Exception: Whatever huggingface_hub raises.
    """
    path, chosen = source.path, None
    if path:
        above = [str(one) for one in PurePosixPath(path).parents if one.name]
        found = HfApi().get_paths_info(source.repository, [path, *above], revision=commit)
        by_path = {one.path: one for one in found}
        if path not in by_path:
            folders = [one for one in above if isinstance(by_path.get(one), RepoFolder)]
            raise NotRepresentable(_nothing_there(source, commit, folders[0] if folders else ""))
        if isinstance(by_path[path], RepoFile):
            path, _, chosen = path.rpartition("/")
    entries = list(islice(_entries(source, commit, path), MAX_ENTRIES + 1))
    if len(entries) > MAX_ENTRIES:
        raise NotRepresentable(
            f"The folder has more than {MAX_ENTRIES:,} entries: put the SAE's own files into one of its own."
        )
    inside = [one.path for one in entries if _inner(one, path) in registry.INSIDE]
    for folder in inside:
        entries += islice(_entries(source, commit, folder), MAX_ENTRIES)
    return HubFolder(path, chosen, dict(_files(entries, path)))


def candidates(source: HubSae, commit: str, folder: str) -> list[str]:
    """Return what may be SAEs in a folder, by their paths below it."""
    names: dict[str, list[str]] = {}
    for one in islice(_entries(source, commit, folder, recursive=True), MAX_ENTRIES):
        inner = PurePosixPath(_inner(one, folder))
        if isinstance(one, RepoFile) and len(inner.parts) <= _MAX_DEPTH + 1:
            names.setdefault("" if len(inner.parts) == 1 else str(inner.parent), []).append(inner.name)
    return registry.candidates(sorted(names.items()))


def _entries(
    source: HubSae, commit: str, folder: str, *, recursive: bool = False
) -> Iterator[RepoFile | RepoFolder]:
    tree = HfApi().list_repo_tree(source.repository, folder or None, recursive=recursive, revision=commit)
    return iter(tree)


def _inner(entry: RepoFile | RepoFolder, folder: str) -> str:
    """Return an entry's path below a folder."""
    return entry.path.removeprefix(f"{folder}/" if folder else "")


def _files(entries: Iterable[RepoFile | RepoFolder], folder: str) -> Iterator[tuple[str, HubFile]]:
    for one in entries:
        name = _inner(one, folder)
        if isinstance(one, RepoFile) and all(_PLAIN.fullmatch(part) for part in name.split("/")):
            yield name, HubFile(one.path, one.size, one.lfs.sha256 if one.lfs else None)


def _nothing_there(source: HubSae, commit: str, above: str) -> str:
    """Say that there is no such path, and what there is near it."""
    names = [_inner(one, above) for one in islice(_entries(source, commit, above), MAX_ENTRIES)]
    wanted = PurePosixPath(source.path).relative_to(above).parts[0]
    near = difflib.get_close_matches(wanted, names, _NEAREST, 0.3) or sorted(names)[:_NEAREST]
    shown = listed(f"{above}/{name}" if above else name for name in near)
    where = f" at the revision {source.revision}" if source.revision else ""
    return f"The repository {source.repository}{where} has no {listed([source.path])}." + (
        f" Near it there is {shown}." if near else ""
    )
