"""Texts in a column of a Parquet file, or in a field of a column of structs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from gql_server.text_files.problems import FileProblem
from gql_server.text_files.rows import Row, named

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 1024


def parquet_rows(source: BinaryIO, name: str, text_field: str, most_bytes: int) -> Iterator[Row]:
    """Give all rows, some of them in memory at a time.

    Raises FileProblem where it is no Parquet file, has no such column of strings or bytes, or more than
    ``most_bytes`` of it have been read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number, n_bytes = 0, 0
    try:
        path = _path(pq.ParquetFile(source).schema_arrow, name, text_field)
        column = ".".join(path)
        file = pq.ParquetFile(source, read_dictionary=[column])
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column]):
            for value in _values(batch, path):
                number, n_bytes = number + 1, n_bytes + len(value or b"")
                if n_bytes > most_bytes:
                    raise FileProblem(f"{name} has more than {most_bytes} bytes of texts when unpacked.")
                yield Row(f"row {number}", value)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FileProblem(f"{name} is not a Parquet file: {str(error).splitlines()[0]}") from None


def _path(schema: "pa.Schema", name: str, text_field: str) -> list[str]:
    """Return the names that lead to the texts: the column's, and those of fields inside it."""
    import pyarrow as pa

    found = _find(pa.struct(list(schema)), text_field)
    if found is None:
        raise FileProblem(f"{name} has no column {text_field!r}; its columns: {named(schema.names)}.")
    path, type_ = found
    if _stands_twice(schema, path):
        raise FileProblem(f"{name} has more than one column {text_field!r}; give each a name of its own.")
    if pa.types.is_struct(type_):
        fields = named([f"{text_field}.{field.name}" for field in type_])
        raise FileProblem(f"{name}: {text_field!r} has fields; name one of them: {fields}.")
    if not _is_text(type_):
        kind = str(type_).splitlines()[0]
        raise FileProblem(f"{name}: {text_field!r} is of type {kind}; name a column of strings.")
    return path


def _find(type_: "pa.StructType", path: str) -> "tuple[list[str], pa.DataType] | None":
    """Look a name up among fields, then names inside each other with dots between."""
    import pyarrow as pa

    inner = {field.name: field.type for field in type_}
    if path in inner:
        return [path], inner[path]
    for field, field_type in inner.items():
        if path.startswith(f"{field}.") and pa.types.is_struct(field_type):
            found = _find(field_type, path.removeprefix(f"{field}."))
            if found is not None:
                return [field, *found[0]], found[1]
    return None


def _stands_twice(schema: "pa.Schema", path: list[str]) -> bool:
    """Say whether one of the names on the way to a column has another beside it that is the same."""
    import pyarrow as pa

    level = pa.struct(list(schema))
    for name in path:
        alike = [field for field in level if field.name == name]
        if len(alike) > 1:
            return True
        level = alike[0].type
    return False


def _is_text(type_: "pa.DataType") -> bool:
    import pyarrow.types as types

    value = type_.value_type if types.is_dictionary(type_) else type_
    tests = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_fixed_size_binary,
        types.is_null,
    )
    return any(test(value) for test in tests)


def _values(batch: "pa.RecordBatch", path: list[str]) -> Iterator[bytes | None]:
    """Give texts as bytes: pyarrow does not look whether what it calls a string is UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(path[0])
    for field in path[1:]:
        column = pc.struct_field(column, [field])
    if pa.types.is_null(column.type):
        yield from [None] * len(column)
    elif pa.types.is_dictionary(column.type):
        # A long value that stands in many rows is there once.
        values = column.dictionary.cast(pa.large_binary())
        for index in column.indices:
            yield values[index.as_py()].as_py() if index.is_valid else None
    else:
        for value in column.cast(pa.large_binary()):
            yield value.as_py()
