"""SHA-256 of files, computed once for each state of a file."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from gql_server.files import write_whole
from gql_server.provenance import FileHash

CACHE_FILE = "file_hashes.json"
_BYTES_AT_ONCE = 8 * 2**20


class _Known(msgspec.Struct, frozen=True):
    modified_ns: int
    file: FileHash


def sha256_of(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """Return a file's SHA-256 in hexadecimal; ``check`` is called every few megabytes and may raise."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_BYTES_AT_ONCE):
            check()
            digest.update(chunk)
    return digest.hexdigest()


def hash_file(path: Path, check: Callable[[], None] = lambda: None) -> FileHash:
    """Describe a file by its name."""
    return FileHash(path.name, path.stat().st_size, sha256_of(path, check))


def hash_files(files: Sequence[Path], cache_dir: Path, check: Callable[[], None]) -> list[FileHash]:
    """Describe files of one directory; read again only where size or modification time has changed.

    The hashes are remembered in ``cache_dir``, those of other files forgotten.
    """
    cache = cache_dir / CACHE_FILE
    before = _read(cache)
    now = {file.name: _known(file, before.get(file.name), check) for file in files}
    if now != before:
        write_whole(cache, msgspec.json.encode(now))
    return [known.file for known in now.values()]


def _known(path: Path, before: _Known | None, check: Callable[[], None]) -> _Known:
    status = path.stat()
    if before and (before.modified_ns, before.file.byte_size) == (status.st_mtime_ns, status.st_size):
        return before
    return _Known(status.st_mtime_ns, FileHash(path.name, status.st_size, sha256_of(path, check)))


def _read(cache: Path) -> dict[str, _Known]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, _Known])
    except (OSError, msgspec.DecodeError):
        return {}
