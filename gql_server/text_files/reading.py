"""The texts of a file, one after the other; its name's ending says of what kind it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TextIO

from gql_server.text_files.delimited import COMMAS_FIRST, TABS_FIRST, DelimitedText, Record
from gql_server.text_files.json_rows import json_line_rows, json_rows
from gql_server.text_files.parquet_rows import parquet_rows
from gql_server.text_files.problems import FileProblem, RowProblem
from gql_server.text_files.rows import Row, SkippedRows, named, text_in
from gql_server.text_files.streams import decoded, lines, unpacked

PACKED = ".gz"
EXPANSION = 4
"""What a file unpacks to may have so many times the bytes that the file itself may have."""


@dataclass(frozen=True)
class ReadingOptions:
    """How to read a file, and how much of it."""

    text_field: str = "text"
    skip_bad_rows: bool = False
    """Leave out rows without a text, or with one that is too long, and count them."""
    max_characters: int = 2**31 - 1
    """Of a text."""
    max_texts: int = 2**31 - 1
    max_bytes: int = 2**31 - 1
    """Of the file; what it unpacks to may have EXPANSION times as many."""


@dataclass
class TextFile:
    """A file's texts, and the rows of it that were left out of them."""

    texts: list[str]
    skipped: SkippedRows = field(default_factory=SkippedRows)


def read_file(path: Path, options: ReadingOptions) -> TextFile:
    """Return the texts of a file; see ``texts_in``."""
    with path.open("rb") as source:
        return read_texts(path.name, source, options)


def read_texts(name: str, source: BinaryIO, options: ReadingOptions) -> TextFile:
    """Return the texts in a file's content; see ``texts_in``."""
    skipped = SkippedRows()
    return TextFile(list(texts_in(name, source, options, skipped)), skipped)


def texts_in(name: str, source: BinaryIO, options: ReadingOptions, skipped: SkippedRows) -> Iterator[str]:
    """Give the texts in a file's content, in its order.

    .txt holds a text a line (blank lines are none); .csv, .tsv, .jsonl, .json and .parquet a text in each
    row's text field. All but Parquet may be packed with gzip. Rows that are skipped are noted in ``skipped``.

    Raises:
        FileProblem: The content is not what it should be, or there is more of it than may be.
    """
    count, n_characters = 0, 0
    try:
        for row in _rows(name, source, options):
            if count + skipped.count >= options.max_texts:
                rows = "texts and bad rows" if skipped.count else "texts"
                raise FileProblem(f"{name} has more than {options.max_texts:,} {rows}, which is the limit.")
            try:
                text = _text(row, options)
            except RowProblem as problem:
                _refuse_or_skip(name, f"{row.place} {problem}", options, skipped)
                continue
            count, n_characters = count + 1, n_characters + len(text)
            if n_characters > EXPANSION * options.max_bytes:
                raise FileProblem(f"{name} has more than {EXPANSION * options.max_bytes} characters.")
            yield text
    except UnicodeDecodeError:
        raise FileProblem(f"{name} is not the text that its byte-order mark tells of.") from None


def _text(row: Row, options: ReadingOptions) -> str:
    if row.problem is not None:
        raise RowProblem(row.problem)
    text = text_in(row.value, options.text_field)
    if len(text) > options.max_characters:
        raise RowProblem(f"has {len(text):,} characters; the limit is {options.max_characters:,}")
    return text


def _refuse_or_skip(name: str, problem: str, options: ReadingOptions, skipped: SkippedRows) -> None:
    if not options.skip_bad_rows:
        raise FileProblem(f"{name}: {problem}. Mend the row, or leave such rows out with skipBadRows.")
    skipped.add(problem)


def suffix_of(name: str) -> str:
    """Return what a file's name ends with but for .gz."""
    return Path(name.lower().removesuffix(PACKED)).suffix


def is_parquet(name: str) -> bool:
    """Whether a file's name is one of a Parquet file, which is never packed."""
    return suffix_of(name) == ".parquet" and not name.lower().endswith(PACKED)


def _rows(name: str, source: BinaryIO, options: ReadingOptions) -> Iterator[Row]:
    suffix = suffix_of(name)
    most_bytes = EXPANSION * options.max_bytes
    if is_parquet(name):
        return parquet_rows(source, name, options.text_field, most_bytes)
    reader = _READERS.get(suffix)
    if reader is None:
        kinds = f"{', '.join(_READERS)}, any of these and {PACKED}, or .parquet"
        raise FileProblem(f"{name} is of no known kind; its name must end in {kinds}.")
    return reader(unpacked(source, name, most_bytes), name, options)


def _txt(content: BufferedReader, name: str, options: ReadingOptions) -> Iterator[Row]:
    for number, line in lines(decoded(content, name, None), options.max_characters):
        if line is None:
            reason = f"has more than {options.max_characters} characters"
            yield Row(f"line {number}", None, reason)
        elif line.strip():
            yield Row(f"line {number}", line)


def _delimited(delimiters: tuple[str, ...]) -> "Reader":
    def read(content: BufferedReader, name: str, options: ReadingOptions) -> Iterator[Row]:
        field = options.text_field
        table = DelimitedText(name, whole_lines(content, name, options), delimiters, [field])
        if field not in table.columns:
            raise FileProblem(f"{name} has no column {field!r}; its columns: {named(table.columns)}.")
        place = table.columns.index(field)
        for number, record in enumerate(table, 1):
            yield _cell(number, record, place, field)

    return read


def _cell(number: int, record: Record, place: int, field: str) -> Row:
    where = f"row {number} (line {record.line})"
    if record.problem is None and place >= len(record.cells):
        return Row(where, None, f"has no cell for {field!r}")
    return Row(where, None if record.problem else record.cells[place], record.problem)


def whole_lines(content: BufferedReader, name: str, options: ReadingOptions) -> Iterator[str]:
    """Give lines with their ends, as the csv module takes them."""
    text: TextIO = decoded(content, name, "")
    while line := text.readline(options.max_bytes + 1):
        if len(line) > options.max_bytes:
            raise FileProblem(f"{name} has a line of more than {options.max_bytes} characters.")
        yield line


def _json_lines(content: BufferedReader, name: str, options: ReadingOptions) -> Iterator[Row]:
    return json_line_rows(decoded(content, name, None), options.text_field, options.max_bytes)


def _json(content: BufferedReader, name: str, options: ReadingOptions) -> Iterator[Row]:
    return json_rows(decoded(content, name, None), name, options.text_field, options.max_bytes)


Reader = Callable[[BufferedReader, str, ReadingOptions], Iterator[Row]]
_READERS: dict[str, Reader] = {
    ".txt": _txt,
    ".csv": _delimited(COMMAS_FIRST),
    ".tsv": _delimited(TABS_FIRST),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
}
