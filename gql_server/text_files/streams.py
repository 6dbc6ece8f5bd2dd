"""A file's bytes as a stream: unpacked, bounded, decoded, and cut into lines."""

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, TextIO

from gql_server.text_files.problems import FileProblem

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_PART = 2**16


class _Bounded(io.RawIOBase):
    """Reads from another stream, and raises FileProblem where it gives more than it may."""

    def __init__(self, inner: BinaryIO, name: str, limit: int) -> None:
        self._inner, self._name, self._limit = inner, name, limit
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        try:
            part = self._inner.read(len(view))
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise FileProblem(f"{self._name} is not a whole gzip file; pack it again.") from None
        self._count += len(part)
        if self._count > self._limit:
            raise FileProblem(f"{self._name} has more than {self._limit} bytes when unpacked.")
        view[: len(part)] = part
        return len(part)


def unpacked(source: BinaryIO, name: str, limit: int) -> io.BufferedReader:
    """Return a file's content as a stream, unpacked where its name ends in .gz.

    Reading raises FileProblem beyond ``limit`` bytes, or where the content is no gzip file.
    """
    inner: BinaryIO = gzip.GzipFile(fileobj=source) if name.lower().endswith(".gz") else source  # type: ignore[assignment]
    return io.BufferedReader(_Bounded(inner, name, limit), _PART)


def decoded(content: io.BufferedReader, name: str, newline: str | None) -> TextIO:
    """Return a stream of text; a byte-order mark says UTF-16 or UTF-32, anything else is UTF-8.

    Bytes that are not UTF-8 come as lone surrogates, so that only the rows that have them are bad. Raises
    FileProblem where the content cannot be text.
    """
    head = content.peek(4)[:4]
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return io.TextIOWrapper(content, encoding, "surrogatepass", newline)
    if head.startswith(GZIP_MAGIC):
        raise FileProblem(f"{name} is packed with gzip, which its name does not say.")
    if b"\0" in head:
        raise FileProblem(f"{name} is not UTF-8 text; save it as UTF-8, or with a byte-order mark.")
    return io.TextIOWrapper(content, "utf-8-sig", "surrogateescape", newline)


def decoded_whole(content: bytes, name: str) -> str:
    """Return all text of a small file. Raises FileProblem where any of it cannot be decoded."""
    try:
        text = decoded(unpacked(io.BytesIO(content), name, len(content)), name, "").read()
        text.encode()
    except UnicodeDecodeError:
        raise FileProblem(f"{name} is not the text that its byte-order mark tells of.") from None
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise FileProblem(f"{name} is not UTF-8 text in line {line}; save it as UTF-8.") from None
    return text


def lines(text: TextIO, longest: int) -> Iterator[tuple[int, str | None]]:
    """Give the lines with their numbers from 1, their ends left off; None for one beyond ``longest``.

    No more of a line than that is in memory.
    """
    number = 0
    while line := text.readline(longest + 1):
        number += 1
        if line.endswith("\n") or len(line) <= longest:
            yield number, line.removesuffix("\n")
            continue
        while (part := text.readline(_PART)) and not part.endswith("\n"):
            pass
        yield number, None
