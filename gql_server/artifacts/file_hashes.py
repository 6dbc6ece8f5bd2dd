"""SHA-256 of files, computed once for each state of a file."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from gql_server.artifacts.files import atomic_write, open_plain
from gql_server.artifacts.provenance import FileHash

log = structlog.get_logger(__name__)

CACHE_FILE = "file_hashes.json"
_BYTES_AT_ONCE = 8 * 2**20


class FileState(msgspec.Struct, frozen=True, array_like=True):
    """What a look at a file tells without reading it.

    Who copies a file with its times and its size (``cp -p``, rsync) changes the other two nevertheless.
    """

    byte_size: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Look at a file. Raises FileNotFoundError where there is none."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class _Known(msgspec.Struct, frozen=True):
    file: FileHash
    state: FileState | None = None
    """None in caches of earlier versions, which are not believed."""


def sha256_of(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """Return a file's SHA-256 in hexadecimal; ``check`` is called every few megabytes and may raise."""
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while chunk := file.read(_BYTES_AT_ONCE):
            check()
            digest.update(chunk)
    return digest.hexdigest()


def hash_files(files: Sequence[Path], cache_dir: Path, check: Callable[[], None]) -> list[FileHash]:
    """Describe files of one directory; read again only those whose state has changed.

    The hashes are remembered in ``cache_dir``, those of other files forgotten.
    """
    cache = cache_dir / CACHE_FILE
    before = _read(cache)
    now = {file.name: _known(file, before.get(file.name), check) for file in files}
    if now != before:
        try:
            atomic_write(cache, msgspec.json.encode(now))
        except OSError as error:  # Such as a full disk: they are read again, then.
            log.warning("hashes of files are not kept", path=str(cache), reason=str(error))
    return [known.file for known in now.values()]


def known_hashes(files: Sequence[Path], cache_dir: Path) -> list[FileHash] | None:
    """Describe files as ``hash_files`` has remembered them; None where it would have to read one."""
    before = _read(cache_dir / CACHE_FILE)
    found = [(before.get(file.name), FileState.of(file)) for file in files]
    known = [one.file for one, state in found if one is not None and one.state == state]
    return known if len(known) == len(files) else None


def _known(path: Path, before: _Known | None, check: Callable[[], None]) -> _Known:
    state = FileState.of(path)
    if before and before.state == state:
        return before
    return _Known(FileHash(path.name, state.byte_size, sha256_of(path, check)), state)


def _read(cache: Path) -> dict[str, _Known]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, _Known])
    except (OSError, msgspec.DecodeError):
        return {}
