"""The columns of a file, any of which may have the texts."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from gql_server.text_files.delimited import COMMAS_FIRST, TABS_FIRST, DelimitedText
from gql_server.text_files.json_rows import first_json_value
from gql_server.text_files.problems import FileProblem
from gql_server.text_files.reading import EXPANSION, ReadingOptions, is_parquet, suffix_of, whole_lines
from gql_server.text_files.rows import has_half_characters
from gql_server.text_files.streams import decoded, unpacked

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS = 100
MAX_COLUMN_NAME = 200
_DELIMITERS = {".csv": COMMAS_FIRST, ".tsv": TABS_FIRST}
_JSON = (".json", ".jsonl", ".ndjson")


def columns_in(name: str, source: BinaryIO, options: ReadingOptions) -> list[str]:
    """Return the names of a file's columns, MAX_COLUMNS at most, as ``text_field`` takes them.

    Those of CSV are in its first line, those of Parquet in its schema, and those of JSON in its first object;
    of a field inside another, with a dot between. Text files have none, nor has what is no file of a known
    kind.

    Raises:
        FileProblem: The content is not what it should be.
    """
    names = (one for one in _names(name, source, options) if _is_name(one))
    return list(islice(names, MAX_COLUMNS))


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_COLUMN_NAME and not has_half_characters(name)


def _names(name: str, source: BinaryIO, options: ReadingOptions) -> Iterator[str]:
    suffix = suffix_of(name)
    if is_parquet(name):
        yield from _parquet(source, name)
    elif suffix in _DELIMITERS:
        content = unpacked(source, name, EXPANSION * options.max_bytes)
        lines = whole_lines(content, name, options)
        yield from DelimitedText(name, lines, _DELIMITERS[suffix], [options.text_field]).columns
    elif suffix in _JSON:
        content = unpacked(source, name, EXPANSION * options.max_bytes)
        first = first_json_value(decoded(content, name, None), name, options.max_bytes)
        yield from _paths(first) if isinstance(first, Mapping) else ()


def _paths(row: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, Mapping) and value:
            yield from _paths(value, f"{before}{name}.")
        else:
            yield before + name


def _parquet(source: BinaryIO, name: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.ParquetFile(source).schema_arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FileProblem(f"{name} is not a Parquet file: {str(error).splitlines()[0]}") from None
    for field in schema:
        yield from _fields(field)


def _fields(field: "pa.Field", before: str = "") -> Iterator[str]:
    import pyarrow as pa

    if pa.types.is_struct(field.type) and field.type.num_fields:
        for inner in field.type:
            yield from _fields(inner, f"{before}{field.name}.")
    else:
        yield before + field.name
