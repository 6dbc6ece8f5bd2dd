"""Where tensors lie in a file, told from the headers of safetensors, of .npy in .npz, or of torch.save.

No tensor's bytes are read, no pickle is run, and what is read has a limit.
"""

import io
import json
import math
import os
import re
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from gql_server.formats.sae_sources.pickles import StoredTensor, read_pickle
from gql_server.formats.sae_sources.refusing import NotRepresentable, listed

MAX_HEADER_BYTES = 1024 * 1024
"""Limit on what describes a file's tensors; an SAE's has some hundred bytes."""
MAX_ENTRIES = 100
FLOAT_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""The types that weights may have."""
_MOST_AT_ONCE = 1024 * 1024
_MAX_NPY_HEADER = 4096
_SAFETENSORS = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("I16", 2),
    "I8": ("I8", 1),
    "U64": ("U64", 8),
    "U32": ("U32", 4),
    "U16": ("U16", 2),
    "U8": ("U8", 1),
    "BOOL": ("BOOL", 1),
    "F8_E5M2": ("F8_E5M2", 1),
    "F8_E4M3": ("F8_E4M3", 1),
}
_NPY = {"<f8": "float64", "<f4": "float32", "<f2": "float16", "<i8": "int64", "<i4": "int32"}
_NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,8})', 'fortran_order': (True|False),"
    r" 'shape': \(((?:\d{1,15}, ?)*\d{0,15})\), ?\} *\n?"
)
_STRUCT = {"float64": "<d", "float32": "<f", "float16": "<e", "int64": "<q", "int32": "<i"}
_UNREADABLE = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    OSError,
)
"""Errors of zipfile for files that are no ZIP files, damaged, or encrypted."""


@dataclass(frozen=True)
class TensorHeader:
    """Where a tensor lies in a file, and what it is."""

    name: str
    dtype: str
    """Such as float32; what is none of FLOAT_BYTES' is no weight."""
    shape: tuple[int, ...]
    offset: int
    """The first byte's place in the file."""
    is_transposed: bool = False
    """Whether a matrix is stored column by column."""


@dataclass(frozen=True)
class TensorFile:
    """A file of tensors."""

    name: str
    """The name that messages use."""
    tensors: Mapping[str, TensorHeader]
    values: Mapping[str, Any] = field(default_factory=dict)
    """Plain values and dictionaries that torch.save wrote beside tensors."""

    def shapes(self) -> str:
        """Return the tensors and their shapes for a sentence, shortened."""
        return listed(f"{name} {list(tensor.shape)}" for name, tensor in self.tensors.items())

    def weight(self, name: str, shape: Sequence[int], said_by: str) -> TensorHeader:
        """Return a tensor of weights. NotRepresentable where there is none, or not of a shape or type.

        Args:
            name: Its name in the file.
            shape: The shape that it must have.
            said_by: What says so, for the sentence.
        """
        found = self.tensors.get(name)
        if found is None:
            raise NotRepresentable(f"{self.name} lacks {name}; it has {self.shapes() or 'no tensors'}.")
        if list(found.shape) != list(shape):
            raise NotRepresentable(
                f"The tensor {name} has the shape {list(found.shape)}; {said_by} say {list(shape)}."
            )
        if found.dtype not in FLOAT_BYTES:
            raise NotRepresentable(
                f"The tensor {name} has values of the type {found.dtype}; floating-point ones can be"
                " imported."
            )
        return found

    def size(self, name: str) -> int:
        """Return the length of a vector. NotRepresentable where there is none, or it is no vector."""
        found = self.tensors.get(name)
        if found is None or len(found.shape) != 1 or found.shape[0] < 1:
            what = "none" if found is None else f"the shape {list(found.shape)}"
            raise NotRepresentable(
                f"{self.name} must have a vector {name}, whose length is one of the SAE's sizes; it has"
                f" {what}."
            )
        return found.shape[0]

    def check_names(self, wanted: set[str], optional: set[str], architecture: str) -> None:
        """Raise NotRepresentable where a tensor is missing, or one is there that the architecture lacks."""
        if missing := sorted(wanted - self.tensors.keys()):
            raise NotRepresentable(f"{self.name} lacks {', '.join(missing)}, which {architecture} SAEs have.")
        if strange := sorted(self.tensors.keys() - wanted - optional):
            raise NotRepresentable(
                f"{self.name} has tensors that {architecture} SAEs do not have: "
                + ", ".join(ascii(name)[:60] for name in strange[:5])
                + "."
            )


def read_scalar(file: BinaryIO, tensor: TensorHeader) -> float:
    """Return the value of a tensor that has one. NotRepresentable where it has another number of them."""
    if math.prod(tensor.shape) != 1 or tensor.dtype not in {*_STRUCT, "bfloat16"}:
        raise NotRepresentable(f"The tensor {tensor.name} must have one number, not {list(tensor.shape)}.")
    file.seek(tensor.offset)
    with _saying(f"The file ends before its tensor {tensor.name} does."):
        if tensor.dtype == "bfloat16":  # The upper half of a float32.
            return float(struct.unpack("<f", b"\0\0" + file.read(2))[0])
        kind = _STRUCT[tensor.dtype]
        return float(struct.unpack(kind, file.read(struct.calcsize(kind)))[0])


# ------------------------------------------------------------------------------ safetensors


def read_safetensors(name: str, file: BinaryIO) -> TensorFile:
    """Read the header of a safetensors file. Raises NotRepresentable where it does not fit the file."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ValueError("a header that is too long")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = {key: _described(key, entry, 8 + length) for key, entry in header.items()}
        _check_filled(tensors.values(), 8 + length, size)
    except (struct.error, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise NotRepresentable(
            f"{name} is damaged, or no safetensors file: its header does not describe tensors of types that"
            " safetensors knows, which fill the file. Save it again."
        ) from error
    return TensorFile(name, {key: tensor for key, (tensor, _) in tensors.items()})


def _described(name: str, entry: Any, start: int) -> tuple[TensorHeader, int]:
    """Return a tensor and its number of bytes. Raises what a wrong header makes Python raise."""
    dtype, n_bytes = _SAFETENSORS[entry["dtype"]]
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and 0 <= number < 2**48 for number in (*shape, begin, end)):
        raise ValueError("a size that is none")
    if end - begin != n_bytes * math.prod(shape):
        raise ValueError("data that is longer or shorter than its tensor")
    return TensorHeader(name, dtype, tuple(shape), start + begin), end - begin


def _check_filled(tensors: Any, start: int, size: int) -> None:
    place = start
    for tensor, n_bytes in sorted(tensors, key=lambda pair: (pair[0].offset, pair[1])):
        if tensor.offset != place:
            raise ValueError("a gap, or tensors over one another")
        place += n_bytes
    if place != size:
        raise ValueError("more or less than the tensors")


# ------------------------------------------------------------------------------------- ZIP


class _Pieces(io.RawIOBase):
    """A file read at a place of its own, and of which no large piece is read at once.

    zipfile reads a list of entries whole, however long; and the file may be read by others meanwhile.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor, self._place = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence, os.fstat(self._descriptor).st_size)
        if start + offset < 0:
            raise ValueError("a place before the file")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece; BadZipFile where a larger one than any checkpoint has is asked for."""
        if size is not None and size > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("a list of entries that is too long")
        wanted = _MOST_AT_ONCE if size is None or size < 0 else size
        piece = os.pread(self._descriptor, wanted, self._place)
        self._place += len(piece)
        return piece


@contextmanager
def _saying(otherwise: str) -> Iterator[None]:
    """Raise NotRepresentable, saying ``otherwise``, for what zipfile raises of a file that is none."""
    try:
        yield
    except _UNREADABLE as error:
        raise NotRepresentable(otherwise) from error


def _archive(stack: ExitStack, file: BinaryIO) -> zipfile.ZipFile:
    """Open a ZIP file until the stack is closed."""
    pieces: Any = _Pieces(file.fileno())
    return stack.enter_context(zipfile.ZipFile(pieces))


def _entries(archive: zipfile.ZipFile, packed: str) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name; NotRepresentable, saying ``packed``, where one stands for more bytes."""
    entries = archive.infolist()
    by_name = {entry.filename: entry for entry in entries}
    odd = any(
        entry.compress_type != zipfile.ZIP_STORED
        or entry.file_size != entry.compress_size
        or entry.flag_bits & 1
        for entry in entries
    )
    assert archive.fp is not None
    n_bytes = archive.fp.seek(0, io.SEEK_END)
    # Entries that overlap would be read again and again.
    overlapping = sum(entry.file_size for entry in entries) > n_bytes
    if len(entries) > MAX_ENTRIES or len(by_name) != len(entries) or odd or overlapping:
        raise NotRepresentable(packed)
    return by_name


def _place(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Return where an entry's bytes begin in the file."""
    assert archive.fp is not None
    archive.fp.seek(entry.header_offset)
    local = archive.fp.read(30)
    signature, name_length, extra_length = struct.unpack("<4s22xHH", local)
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile("no entry at its place")
    return entry.header_offset + 30 + int(name_length) + int(extra_length)


def check_sums(file: BinaryIO, what: str) -> None:
    """Raise NotRepresentable where the bytes of a ZIP file are not those that its sums are of."""
    with _saying(f"{what} is damaged."), ExitStack() as stack:
        archive = _archive(stack, file)
        if (damaged := archive.testzip()) is not None:
            raise NotRepresentable(f"{what} is damaged, in {damaged[:100]!a}.")


def read_npz(name: str, file: BinaryIO) -> TensorFile:
    """Read the headers of the arrays in a file of numpy.savez. Raises NotRepresentable where it is none."""
    wrong = f"{name} is damaged, or no file of arrays as numpy.savez writes it."
    with _saying(wrong), ExitStack() as stack:
        archive = _archive(stack, file)
        packed = f"{name} is packed in a way in which numpy.savez does not: savez_compressed is not read."
        tensors = {}
        for entry in _entries(archive, packed).values():
            key = entry.filename.removesuffix(".npy")
            tensors[key] = _array(name, key, archive, entry)
    return TensorFile(name, tensors)


def _array(name: str, key: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> TensorHeader:
    start = _place(archive, entry)
    assert archive.fp is not None
    archive.fp.seek(start)
    begin = archive.fp.read(12)
    wide = begin[6:7] != b"\x01"
    length = int.from_bytes(begin[8 : 12 if wide else 10], "little")
    header_bytes = (12 if wide else 10) + length
    if begin[:6] != b"\x93NUMPY" or length > _MAX_NPY_HEADER or header_bytes > entry.file_size:
        raise NotRepresentable(f"{name} has an entry {key[:60]!a} that is no array.")
    archive.fp.seek(start + header_bytes - length)
    found = _NPY_HEADER.fullmatch(archive.fp.read(length).decode("latin-1"))
    if found is None or found[1] not in _NPY:
        raise NotRepresentable(
            f"{name} has an array {key[:60]!a} that is none of plain numbers: one of objects would be a"
            " pickle, and none is run."
        )
    shape = tuple(int(size) for size in found[3].replace(" ", "").split(",") if size)
    dtype = _NPY[found[1]]
    if math.prod(shape) * int(found[1][2:]) != entry.file_size - header_bytes:
        raise NotRepresentable(f"{name} has an array {key[:60]!a} that is not as long as its shape says.")
    return TensorHeader(key, dtype, shape, start + header_bytes, found[2] == "True" and len(shape) > 1)


# ------------------------------------------------------------------------------ torch.save

_ITEM_BYTES = {**FLOAT_BYTES, "int32": 4, "int64": 8}


NO_CHECKPOINT = "It is no checkpoint as PyTorch has written it since version 1.6."


class CheckpointFile:
    """What a file that torch.save wrote describes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Look at everything but the tensors. Raises NotRepresentable with what is wrong."""
        self._archive = archive
        self._entries = _entries(archive, "The checkpoint is packed in a way in which torch.save does not.")
        self.root = self._find_root()
        """The name that it was saved under."""
        self.content: Any = read_pickle(archive.read(self._entries[f"{self.root}/data.pkl"]))
        """Dictionaries of StoredTensors and plain values."""
        self._check_byte_order()

    def header(self, name: str, stored: StoredTensor) -> TensorHeader:
        """Return where a tensor lies in the file."""
        entry = self._entries.get(f"{self.root}/data/{stored.record}")
        n_bytes = _ITEM_BYTES[stored.dtype]
        if entry is None or entry.file_size != n_bytes * stored.n_stored:
            raise NotRepresentable(
                "The checkpoint is damaged: a tensor's data is not as long as it is said to be."
            )
        with _saying(NO_CHECKPOINT):
            offset = _place(self._archive, entry)
        offset += n_bytes * stored.offset
        return TensorHeader(name, stored.dtype, stored.shape, offset, stored.is_transposed)

    def _find_root(self) -> str:
        pickles = [name for name in self._entries if name.endswith(".pkl")]
        if len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
            raise NotRepresentable("The checkpoint is no file of tensors, as torch.save writes it.")
        if self._entries[pickles[0]].file_size > MAX_HEADER_BYTES:
            raise NotRepresentable("The checkpoint describes more than the few tensors of an SAE.")
        return pickles[0].removesuffix("/data.pkl")

    def _check_byte_order(self) -> None:
        entry = self._entries.get(f"{self.root}/byteorder")  # Files of before torch 2.1 have none.
        if entry is None:
            return
        if entry.file_size > 6 or self._archive.read(entry) != sys.byteorder.encode():
            raise NotRepresentable(
                f"The checkpoint's numbers are not in this machine's byte order, {sys.byteorder}."
            )


@contextmanager
def opened_checkpoint(file: BinaryIO) -> Iterator[CheckpointFile]:
    """Open a file that torch.save wrote. Raises NotRepresentable where it is none, or damaged."""
    with ExitStack() as stack:
        with _saying(NO_CHECKPOINT):
            checkpoint = CheckpointFile(_archive(stack, file))
        yield checkpoint


def read_checkpoint(name: str, file: BinaryIO) -> TensorFile:
    """Read what torch.save wrote of a dictionary: its tensors, and plain values beside them."""
    with opened_checkpoint(file) as checkpoint:
        content = checkpoint.content
        if not isinstance(content, dict):
            return TensorFile(name, {})
        stored = {key: value for key, value in content.items() if isinstance(value, StoredTensor)}
        tensors = {key: checkpoint.header(key, value) for key, value in stored.items()}
        return TensorFile(name, tensors, {key: value for key, value in content.items() if key not in stored})
