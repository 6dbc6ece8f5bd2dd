"""What a download of an SAE has got, as it is kept beside the files: for who imports them."""

import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from gql_server.artifacts.files import atomic_write
from gql_server.protocol.tasks import DOWNLOADED_FILE


class DownloadedSae(msgspec.Struct, frozen=True):
    """An SAE whose files are all there."""

    commit: str
    format: str
    """A key of registry.FORMATS."""
    files: list[str]
    """Names, the configuration first; they lie in a directory that is named for the commit."""


def downloaded(directory: Path) -> DownloadedSae | None:
    """Return what a download has got; None where it has not come to its end."""
    try:
        return msgspec.json.decode((directory / DOWNLOADED_FILE).read_bytes(), type=DownloadedSae)
    except FileNotFoundError:
        return None


def note(directory: Path, found: DownloadedSae) -> None:
    """Note that all is there."""
    atomic_write(directory / DOWNLOADED_FILE, msgspec.json.encode(found))


def discard(directory: Path) -> None:
    """Remove what a download has got, and the SAE's directory where that was all it had."""
    shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError):
        directory.parent.rmdir()
