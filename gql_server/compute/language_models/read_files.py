"""The files that a loaded model was read from: what they were, and whether they are others by now."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from gql_server.artifacts.file_hashes import FileState, hash_files, sha256_of
from gql_server.artifacts.provenance import FileHash, LanguageModelProvenance
from gql_server.compute.language_models.model_files import TOKENIZER_FILE, converted_file
from gql_server.model_files.files import (
    Stamp,
    commit_of,
    files_of_load,
    identify,
    name_of,
    stamp_of,
)
from gql_server.protocol.sources import LanguageModelSource


@dataclass
class ReadFiles:
    """How a model's files looked when it was loaded, and what they were."""

    source: LanguageModelSource
    stamp: Stamp
    contents: list[FileHash]
    origin: LanguageModelProvenance

    @classmethod
    def now(cls, source: LanguageModelSource, stamp: Stamp, place: str) -> "ReadFiles":
        """Hash the files, once a model has been loaded from a place."""
        return cls(source, stamp, _contents(source), _origin(source, place))

    def look_the_same(self) -> bool:
        """Whether nothing about them has changed. A directory that has gone takes no loaded model with it."""
        return stamp_of(self.source) in ({}, self.stamp)

    def are_the_same(self) -> bool:
        """Whether they hold the same, whatever they look like; reads those that look different."""
        stamp = stamp_of(self.source)
        # Another commit of a repository looks different and has no contents here.
        if self.source.kind == "HUGGING_FACE" or _contents(self.source) != self.contents:
            return False
        self.stamp = stamp
        return True

    def were_overwritten(self) -> bool:
        """Whether one of them was written to in place; what took the place of a file does not count.

        transformers maps files into memory, so what is written to one is in the loaded weights as well.
        """
        now = stamp_of(self.source)
        in_place = any(_written_to(state, now.get(name)) for name, state in self.stamp.items())
        return in_place and _contents(self.source) != self.contents


def _written_to(before: FileState | str, now: FileState | str | None) -> bool:
    if not (isinstance(before, FileState) and isinstance(now, FileState)) or now.inode != before.inode:
        return False
    return (now.modified_ns, now.byte_size) != (before.modified_ns, before.byte_size)


def _contents(source: LanguageModelSource) -> list[FileHash]:
    """Return the hashes of all files that a load reads; of a repository, whose commit says it, none."""
    try:
        return hash_files(files_of_load(source), Path(source.copy_dir), lambda: None)
    except FileNotFoundError:  # It went in between, and looks different for it.
        return []


def _origin(source: LanguageModelSource, place: str) -> LanguageModelProvenance:
    found = identify(source) or LanguageModelProvenance(
        source.kind, name_of(source), None, [], source.dtype, None
    )
    if source.kind == "HUGGING_FACE":
        found = msgspec.structs.replace(found, revision=commit_of(place))
    converted_from = converted_file(source) if source.kind == "GGUF" else None
    if converted_from is not None:
        found = msgspec.structs.replace(found, files=[converted_from])
    tokenizer = Path(source.copy_dir) / TOKENIZER_FILE
    sha256 = sha256_of(tokenizer) if tokenizer.exists() else None
    return msgspec.structs.replace(found, tokenizer_sha256=sha256)
