"""Reading texts out of files that people have: text, CSV, JSON lines, Parquet."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reader = Callable[[str, bytes, str], list[str]]


def read_file(path: Path, text_field: str) -> list[str]:
    """Return the texts of a file; see ``read_content``."""
    return read_content(path.name, path.read_bytes(), text_field)


def read_content(name: str, content: bytes, text_field: str) -> list[str]:
    """Return the texts in a file's content, in its order; the name's ending says what kind of file it is.

    .txt holds a text a line (blank lines are none), .csv, .jsonl and .parquet a text in each row's
    ``text_field``.
    Raises ValueError with a sentence for people where the content is not what it should be.
    """
    reader = _READERS.get(Path(name).suffix.lower())
    if reader is None:
        raise ValueError(f"{name} is of no known kind; its name must end in {', '.join(_READERS)}.")
    return reader(name, content, text_field)


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: byte {error.start} cannot be decoded.") from None


def _check(name: str, place: str, field: str, value: Any) -> str:
    """Return the value if it is a string that UTF-8 can hold."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: {field!r} is not a string in {place}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: {field!r} holds half a character in {place}.") from None
    return value


def json_problem(error: ValueError | RecursionError) -> str:
    """Return what is wrong with a text that ``json.loads`` has not taken, without Python's own terms."""
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it has a number of too many digits"


def _missing(name: str, field: str, there: list[str]) -> ValueError:
    columns = ", ".join(repr(column) for column in there) or "none"
    return ValueError(f"{name} has no column {field!r}; its columns: {columns}.")


def _read_txt(name: str, content: bytes, text_field: str) -> list[str]:
    # Not splitlines(): it also splits at characters that stand inside a line.
    lines = (line.removesuffix("\r") for line in _decode(name, content).split("\n"))
    return [line for line in lines if line.strip()]


def _read_csv(name: str, content: bytes, text_field: str) -> list[str]:
    reader = csv.DictReader(io.StringIO(_decode(name, content), newline=""))
    try:
        columns = list(reader.fieldnames or [])
        if text_field not in columns:
            raise _missing(name, text_field, columns)
        return [
            _check(name, f"row {row}", text_field, line[text_field]) for row, line in enumerate(reader, 1)
        ]
    except csv.Error as error:
        raise ValueError(f"{name} is not CSV at line {reader.line_num + 1}: {error}.") from None


def _read_json_lines(name: str, content: bytes, text_field: str) -> list[str]:
    texts = []
    for number, line in enumerate(_decode(name, content).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} is not JSON at line {number}: {json_problem(error)}.") from None
        if not isinstance(row, dict) or text_field not in row:
            raise ValueError(f"{name} has no {text_field!r} at line {number}.")
        texts.append(_check(name, f"line {number}", text_field, row[text_field]))
    return texts


def _read_parquet(name: str, content: bytes, text_field: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        columns = file.schema_arrow.names
        if text_field not in columns:
            raise _missing(name, text_field, columns)
        if columns.count(text_field) > 1:
            raise ValueError(f"{name} has more than one column {text_field!r}; give each a name of its own.")
        values = file.read(columns=[text_field]).column(text_field).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} is not a Parquet file: {str(error).splitlines()[0]}") from None
    return [_check(name, f"row {row}", text_field, value) for row, value in enumerate(values, 1)]


_READERS: dict[str, Reader] = {
    ".txt": _read_txt,
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
