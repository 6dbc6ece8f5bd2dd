"""A language model's files on the Hugging Face Hub, got into the Hub's cache on this machine."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils.tqdm import tqdm

from gql_server.model_files.files import HUB_FILES, OTHER_HUB_FILES, commit_of, repository_in_cache
from gql_server.protocol.sources import LanguageModelSource

PARTIAL = ".incomplete"
"""Suffix of a file that is still being downloaded."""
_API_SECONDS = 30
"""Timeout of the question which commit a branch stands for."""


class Received:
    """Counts what comes over the network, which may be long before it is written down."""

    def __init__(self) -> None:
        self.n_bytes = 0

    def bar(self) -> type[tqdm]:
        """Return a class of progress bars, as the library takes one, that shows nothing and counts."""
        received = self

        class Bar(tqdm):
            def update(self, n: Any = 1) -> None:
                received.n_bytes += int(n or 0)

        return Bar


def download_files(source: LanguageModelSource, received: Received) -> None:
    """Get what a load needs of a repository, unless the cache has it; weights in one format alone.

    A branch or a tag stands for its commit in the cache once all files of that are there: until then the
    files of the one before are used. Raises whatever huggingface_hub does.
    """
    revision = source.revision
    commit = revision
    if revision is None or commit_of(revision) is None:
        commit = HfApi().repo_info(source.location, revision=revision, timeout=_API_SECONDS).sha
    patterns = list(HUB_FILES)
    directory = _download(source, commit, patterns, received)
    if not any(Path(directory).glob("*.safetensors")):
        patterns.append("*.bin")
        _download(source, commit, patterns, received)
    if commit != revision:
        _download(source, revision, patterns, received)


def _download(
    source: LanguageModelSource, revision: str | None, patterns: list[str], received: Received
) -> str:
    return snapshot_download(
        source.location,
        revision=revision,
        allow_patterns=patterns,
        ignore_patterns=list(OTHER_HUB_FILES),
        tqdm_class=received.bar(),
    )


def downloaded_bytes(source: LanguageModelSource) -> int:
    """Return how many bytes of a repository's files have come so far, of all its commits."""
    total = 0
    for file in (repository_in_cache(source) / "blobs").glob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue  # It has just got its last name.
    return total


def remove_partial_files() -> None:
    """Remove the files that this process is downloading, which no other download goes on with (Linux)."""
    for descriptor in Path("/proc/self/fd").glob("*"):
        try:
            file = descriptor.readlink()
            if file.name.endswith(PARTIAL):
                file.unlink()
        except FileNotFoundError:
            continue  # It has just been closed.
