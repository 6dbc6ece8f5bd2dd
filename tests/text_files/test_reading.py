"""Texts out of files of each kind, as people bring them."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from gql_server.text_files.problems import FileProblem
from gql_server.text_files.reading import (
    EXPANSION,
    ReadingOptions,
    TextFile,
    read_file,
    read_texts,
    texts_in,
)
from gql_server.text_files.rows import SkippedRows

SKIPPING = ReadingOptions(skip_bad_rows=True)
ADVICE = "Mend the row, or leave such rows out with skipBadRows."
NO_MARK = "is not UTF-8 text; save it as UTF-8, or with a byte-order mark."
KINDS = ".txt, .csv, .tsv, .jsonl, .ndjson, .json, any of these and .gz, or .parquet"
PACKED = gzip.compress(b'"x"', mtime=0)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def read(name: str, content: bytes, options: ReadingOptions | str = "text") -> TextFile:
    if isinstance(options, str):
        options = ReadingOptions(options)
    return read_texts(name, io.BytesIO(content), options)


def texts_of(name: str, content: bytes, options: ReadingOptions | str = "text") -> list[str]:
    return read(name, content, options).texts


def refusal(name: str, content: bytes, options: ReadingOptions | str = "text") -> str:
    with pytest.raises(FileProblem) as problem:
        read(name, content, options)
    return str(problem.value)


def parquet(columns: dict[str, Any] | pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), buffer)
    return buffer.getvalue()


def delimited(rows: list[list[str]], **how: Any) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, **how).writerows(rows)
    return buffer.getvalue().encode()


def rows_of(texts: list[str], field: str = "text") -> str:
    return "".join(json.dumps({"id": row, field: text}) + "\n" for row, text in enumerate(texts))


# ------------------------------------------------------------------------------------ kinds


def test_each_kind_of_file_gives_its_texts_packed_or_not(tmp_path: Path) -> None:
    texts = ['He said "no"; twice, and\ttabs', "naïve\u2028line", "third"]
    table = [["id", "body"], *([str(row), text] for row, text in enumerate(texts))]
    contents = {
        "a.txt": ("\n".join(texts) + "\n\n").encode(),
        "a.jsonl": rows_of(texts, "body").encode(),
        "a.ndjson": rows_of(texts, "body").strip().encode(),
        "a.CSV": "\ufeff".encode() + delimited(table),
        "a.tsv": delimited(table, delimiter="\t"),
        "a.json": json.dumps([{"body": text} for text in texts], indent=1).encode(),
        "b.json": json.dumps(texts).encode(),
        "c.json": rows_of(texts, "body").encode(),
    }
    contents |= {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}
    contents["a.parquet"] = parquet({"id": [0, 1, 2], "body": texts})
    for name, content in contents.items():
        assert texts_of(name, content, "body") == texts, name
        (tmp_path / name).write_bytes(content)
        assert read_file(tmp_path / name, ReadingOptions("body")).texts == texts, name


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=8),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
)
def test_any_csv_that_the_csv_module_writes_is_read(
    rows: list[tuple[str, str]], delimiter: str, end: str, mark: bool
) -> None:
    content = delimited(
        [["id", "text"], *map(list, rows)],
        delimiter=delimiter,
        lineterminator=end,
        quoting=csv.QUOTE_NONNUMERIC,
    )
    found = texts_of("a.csv", b"\xef\xbb\xbf" * mark + content)
    assert found == [text for _, text in rows]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8), ascii=st.booleans(), indent=st.sampled_from([None, 2]))
def test_any_list_that_the_json_module_writes_is_read(
    texts: list[str], ascii: bool, indent: int | None
) -> None:
    rows = [{"text": text, "other": [{"]": row}, None, 1.5]} for row, text in enumerate(texts)]
    content = json.dumps(rows, ensure_ascii=ascii, indent=indent).encode()
    assert texts_of("a.json", content) == texts
    assert texts_of("a.json", json.dumps(texts, ensure_ascii=ascii, indent=indent).encode()) == texts


def test_a_long_list_of_json_is_read_in_parts() -> None:
    texts = [f"{row} " + "x" * (row % 7 * 100_000) for row in range(40)]
    assert texts_of("a.json", json.dumps([{"text": text} for text in texts]).encode()) == texts
    number = "1" * (2**20 - 1)
    assert refusal("a.json", f"[{number}11]".encode()).startswith(
        "a.json is not JSON at element 1: it has a number of too many digits."
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_a_file_is_encoded(encoding: str) -> None:
    texts = ["naïve", "😀", "third"]
    assert texts_of("a.txt", "\n".join(texts).encode(encoding)) == texts
    assert texts_of("a.jsonl", rows_of(texts).encode(encoding)) == texts
    assert texts_of("a.json", json.dumps(texts).encode(encoding)) == texts
    assert texts_of("a.csv", "text\r\nnaïve\r\n😀\r\nthird".encode(encoding)) == texts
    big_endian = b"\xfe\xff" + "text\nnaïve".encode("utf-16-be")
    assert texts_of("a.csv", big_endian) == ["naïve"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system_and_blank_ones_are_none(end: str) -> None:
    assert texts_of("a.txt", end.join(["", "one", "  ", "two"]).encode()) == ["one", "two"]
    lines = ["", '{"text": "one"}', " ", '{"text": "two"}', ""]
    assert texts_of("a.jsonl", end.join(lines).encode()) == ["one", "two"]
    assert texts_of("a.csv", end.join(["", "id,text", "1,one", "", "2,two"]).encode()) == ["one", "two"]


# -------------------------------------------------------------------------------------- CSV


def test_a_csv_field_may_hold_line_breaks() -> None:
    assert texts_of("a.csv", b'text\r\n"one\ntwo"\r\nthree\r\n') == ["one\ntwo", "three"]


def test_a_long_value_in_any_column_of_a_csv_is_taken() -> None:
    long = "x" * 200_000
    rows = [["id", "html", "text"], ["1", long, "one"], ["2", "", long]]
    assert texts_of("a.csv", delimited(rows)) == ["one", long]


def test_semicolons_and_tabs_are_told_by_the_first_line() -> None:
    assert texts_of("a.csv", b"id;text\n1;one, two\n2;three\n") == ["one, two", "three"]
    assert texts_of("a.csv", b"id\ttext\n1\tone; two\n") == ["one; two"]
    assert texts_of("a.tsv", b"id,text\n1,one\n") == ["one"]
    assert texts_of("a.csv", b"sep=;\r\ntext;id\r\none, two;1\r\n") == ["one, two"]
    # With commas there is the column, so semicolons are the text's own.
    assert texts_of("a.csv", b"text,a;b\none;two,1\n") == ["one;two"]
    assert texts_of("a.csv", b"text\none;two\n") == ["one;two"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_names_in_quotation_marks_may_have_line_breaks(delimiter: str) -> None:
    rows = [["id", "a\nlong name", "text"], ["1", "x", "one"], ["2", "y", "two\nlines"]]
    content = delimited(rows, delimiter=delimiter)

    assert texts_of("a.csv", content) == ["one", "two\nlines"]
    unclosed = content.replace(b'name"', b"name").replace(b'"two', b"two").replace(b'lines"', b"lines")
    assert refusal("a.csv", unclosed) == "a.csv has a quotation mark in the row of line 1 that is not closed."
    reason = f"a.csv is not CSV in line 1: '{delimiter}' expected after '\"'."
    assert refusal("a.csv", content.replace(b'name"', b'name" x')) == reason


def test_a_row_that_came_apart_at_a_comma_is_no_text() -> None:
    content = b'text,id\nhello, world,1\nfine,2\nfine too,3,\n"quoted, well",4\n'
    reason = "row 1 (line 2) has 3 cells, but the first line 2; is a quotation mark missing?"
    assert refusal("a.csv", content) == f"a.csv: {reason}. {ADVICE}"
    found = read("a.csv", content, SKIPPING)
    assert found.texts == ["fine", "fine too", "quoted, well"]
    assert found.skipped.reasons == [reason]


def test_a_quotation_mark_that_is_never_closed_does_not_swallow_the_rest() -> None:
    sentence = "a.csv has a quotation mark in the row of line 3 that is not closed."
    content = b'text\nfine\n"open\nmore\nand more\n'
    assert refusal("a.csv", content) == sentence
    assert refusal("a.csv", content, SKIPPING) == sentence
    assert refusal("a.csv", b'"text\nfine\n').endswith("line 1 that is not closed.")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'"abc\n2,def\n3,"ghi"', "a.csv has a quotation mark in the row of line 2 that is not closed."),
        (b'"he said "hi" there",1', "row 1 (line 2) is not CSV: ',' expected after '\"'"),
    ],
)
def test_a_quotation_mark_out_of_its_place_changes_no_text(row: bytes, reason: str) -> None:
    assert reason in refusal("a.csv", b"text,id\n" + row + b"\nfine,4\n")
    assert texts_of("a.csv", b'text,id\na 5" pipe,1\n"a ""quoted"" word",2\n') == [
        'a 5" pipe',
        'a "quoted" word',
    ]


def test_a_row_that_broke_off_in_a_cell_of_several_lines_hides_no_rows() -> None:
    before = csv.field_size_limit(50)
    try:
        content = b'text\nfine\n"open\n' + b"a row that is lost otherwise\n" * 20
        assert refusal("a.csv", content, SKIPPING).endswith("in the row of line 3 that is not closed.")
        long = b"text\nfine\n" + b"x" * 60 + b"\nfine too\n"
        assert texts_of("a.csv", long, SKIPPING) == ["fine", "fine too"]
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"text": "one", "te\\u0078t": "two"}', "text"),
        ('{"text\u00e9": "one", "text\u00e9": "two"}', "text\u00e9"),
        ('{"a": {"b": "one", "b": "two"}}', "a.b"),
        ('{"a": {"b": "one"}, "a": {"b": "two"}}', "a.b"),
    ],
)
def test_a_name_that_an_object_has_twice_is_no_text(line: str, field: str) -> None:
    assert f"line 1 has {field!r} more than once" in refusal("a.jsonl", line.encode(), field)
    beside = '{"a": {"b": "one", "c": 1, "c": 2}, "text": "x", "z": "text", "z": 1}'
    assert texts_of("a.jsonl", beside.encode(), "a.b") == ["one"]
    assert texts_of("a.jsonl", beside.encode(), "text") == ["x"]


def test_an_object_with_very_many_names_and_one_twice_is_read_at_once() -> None:
    names = "".join(f'"n{number}": 0, ' for number in range(200_000))
    line = f'{{{names}"n7": 1, "text": "one", "z": "text", "y": "text"}}'
    assert texts_of("a.jsonl", line.encode()) == ["one"]


@pytest.mark.parametrize("number", ["1.5", "1e5", "12"])
def test_a_number_may_lie_across_what_is_read_at_once(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = f'["one", {number}, "two"]'.encode()
    for part in range(1, 14):
        monkeypatch.setattr("gql_server.text_files.json_rows._PART", part)
        found = read("a.json", content, SKIPPING)
        assert (found.texts, found.skipped.count) == (["one", "two"], 1)


def test_of_two_columns_of_one_name_only_the_one_asked_for_matters() -> None:
    sentence = "has more than one column 'text'; give each a name of its own."
    assert refusal("a.csv", b"text,id,text\na,1,b\n") == f"a.csv {sentence}"
    assert texts_of("a.csv", b"id,text,id\n1,a,2\n") == ["a"]
    table = pa.table([["x"], ["y"], ["z"]], names=["text", "text", "other"])
    assert refusal("a.parquet", parquet(table)) == f"a.parquet {sentence}"
    assert texts_of("a.parquet", parquet(table), "other") == ["z"]
    inner = pa.StructArray.from_arrays([pa.array([text]) for text in "xyz"], names=["b", "b", "c"])
    nested = parquet(pa.table({"a": inner}))
    assert refusal("a.parquet", nested, "a.b") == f"a.parquet {sentence.replace('text', 'a.b')}"
    assert texts_of("a.parquet", nested, "a.c") == ["z"]
    line = b'{"text": "a", "text": "b"}'
    assert refusal("a.jsonl", line) == f"a.jsonl: line 1 has 'text' more than once. {ADVICE}"
    assert texts_of("a.jsonl", b'{"text": "a", "meta": {"text": "b", "text": "c"}}') == ["a"]


# ------------------------------------------------------------------------------- nested fields


@pytest.mark.parametrize(
    "write",
    [
        lambda rows: ("a.jsonl", "\n".join(map(json.dumps, rows)).encode()),
        lambda rows: ("a.json", json.dumps(rows).encode()),
        lambda rows: ("a.parquet", parquet(pa.Table.from_pylist(rows))),
    ],
)
def test_dots_lead_to_a_field_inside_another(
    write: Callable[[list[dict[str, Any]]], tuple[str, bytes]],
) -> None:
    rows: list[dict[str, Any]] = [{"id": 1, "meta": {"text": "one", "a.b": {"c": "two"}}}]
    assert texts_of(*write(rows), "meta.text") == ["one"]
    assert texts_of(*write(rows), "meta.a.b.c") == ["two"]
    # A column that has the very name comes first.
    both = [{"meta": {"text": "inside"}, "meta.text": "itself"}]
    assert texts_of(*write(both), "meta.text") == ["itself"]
    assert "'meta.title'" in refusal(*write(rows), "meta.title")


def test_a_field_of_a_row_without_the_object_is_no_text() -> None:
    table = pa.table({"meta": [{"text": "one"}, None, {"text": None}]})
    options = ReadingOptions("meta.text", skip_bad_rows=True)
    found = read("a.parquet", parquet(table), options)
    assert found.texts == ["one"]
    assert found.skipped.reasons == [
        f"row {row} has null in 'meta.text' instead of a string" for row in (2, 3)
    ]


# ------------------------------------------------------------------------------------ Parquet


@pytest.mark.parametrize(
    "type",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()],
)
def test_parquet_holds_texts_as_strings_or_bytes(type: pa.DataType) -> None:
    texts = ["one", "naïve 😀", "x" * 40]
    values = [text.encode() for text in texts] if "binary" in str(type) else texts
    assert texts_of("a.parquet", parquet({"text": pa.array(values, type)})) == texts
    encoded = pa.array(texts).dictionary_encode()
    assert texts_of("a.parquet", parquet({"text": encoded})) == texts


def test_bytes_that_are_not_utf_8_make_a_row_of_parquet_bad() -> None:
    values = pa.array([b"one", b"caf\xe9", b"three"])
    # A writer that does not look puts the same bytes into a column of strings.
    for column in (values, values.view(pa.string())):
        content = parquet({"text": column})
        reason = "row 2 has bytes in 'text' that are not UTF-8, the first at byte 3"
        assert refusal("a.parquet", content) == f"a.parquet: {reason}. {ADVICE}"
        found = read("a.parquet", content, SKIPPING)
        assert (found.texts, found.skipped.reasons) == (["one", "three"], [reason])


@pytest.mark.parametrize(
    ("column", "field", "sentence"),
    [
        (
            [["one"], ["two"]],
            "text",
            "a.parquet: 'text' is of type list<element: string>; name a column of strings.",
        ),
        ([1, 2], "text", "a.parquet: 'text' is of type int64; name a column of strings."),
        (
            [{"a": "x", "b": "y"}],
            "text",
            "a.parquet: 'text' has fields; name one of them: 'text.a', 'text.b'.",
        ),
        (["x"], "body", "a.parquet has no column 'body'; its columns: 'text'."),
        ([[{"a": "x"}]], "text.a", "a.parquet has no column 'text.a'; its columns: 'text'."),
    ],
)
def test_a_column_of_parquet_that_holds_no_texts_is_told(column: Any, field: str, sentence: str) -> None:
    options = ReadingOptions(field, skip_bad_rows=True)
    assert refusal("a.parquet", parquet({"text": column}), options) == sentence


# ----------------------------------------------------------------------------------- bad rows


@pytest.mark.parametrize(
    ("name", "content", "reasons"),
    [
        (
            "a.txt",
            b"one\nab\xff\ntwo\n",
            ["line 2 has half a character or no UTF-8 in 'text' at character 2"],
        ),
        ("a.csv", b"id,text\n1,one\n2\n\n3,two\n", ["row 2 (line 3) has no cell for 'text'"]),
        (
            "a.csv",
            b"id,text\n1,one\n2,caf\xe9\n\xe9,two\n",
            ["row 2 (line 3) has half a character or no UTF-8 in 'text' at character 3"],
        ),
        (
            "a.jsonl",
            b'{"text": "one"}\n{"text": null}\n{"text": ["x"]}\n{"text": 3}\n\n{"body": "y"}\n[1]\n'
            b'{"text": "\\ud83d"}\n{"text": {}}\n{oops\n{"text": "two"}',
            [
                "line 2 has null in 'text' instead of a string",
                "line 3 has a list in 'text' instead of a string",
                "line 4 has a number in 'text' instead of a string",
                "line 6 has no 'text'; it has 'body'",
                "line 7 is neither an object nor a string",
            ],
        ),
        ("a.jsonl", b'{"text": "one"}\n{"text": "\xff"}\n{"id": "\xff", "text": "two"}', ["line 2 has half"]),
        ("a.json", b'["one", null, {"text": "two"}]', ["element 2 is neither an object nor a string"]),
        (
            "a.parquet",
            parquet({"text": ["one", None, "two"]}),
            ["row 2 has null in 'text' instead of a string"],
        ),
        (
            "a.jsonl",
            b'"one"\n' + b"[" * 200_000 + b"\n" + b"9" * 5000 + b'\n"two"',
            [
                "line 2 is not JSON: it is nested too deeply",
                "line 3 is not JSON: it has a number of too many digits",
            ],
        ),
    ],
)
def test_bad_rows_are_named_or_left_out_and_counted(name: str, content: bytes, reasons: list[str]) -> None:
    assert refusal(name, content).startswith(f"{name}: {reasons[0]}")
    assert refusal(name, content).endswith(ADVICE)
    found = read(name, content, SKIPPING)
    assert found.texts == ["one", "two"]
    assert len(found.skipped.reasons) == len(reasons)
    for told, reason in zip(found.skipped.reasons, reasons, strict=True):
        assert told.startswith(reason)


def test_the_number_of_bad_rows_is_told_with_the_first_reasons() -> None:
    found = read("a.jsonl", b'{"text": "one"}\n' + 7 * b"{}\n", SKIPPING)
    assert found.skipped.count == 7
    reasons = "; ".join(f"line {line} has no 'text'; it has none" for line in range(2, 7))
    assert str(found.skipped) == f"7 bad rows were left out: {reasons}; …."


def test_a_text_that_is_too_long_is_a_bad_row() -> None:
    for name, content in {
        "a.txt": b"one\n" + b"x" * 50 + b"\ntwo",
        "a.csv": b"text\none\n" + b"x" * 50 + b"\ntwo",
        "a.jsonl": rows_of(["one", "x" * 50, "two"]).encode(),
        "a.parquet": parquet({"text": ["one", "x" * 50, "two"]}),
    }.items():
        options = ReadingOptions(max_characters=20)
        said = refusal(name, content, options).replace("row 2 (", "row 2 ")
        assert re.search(r"(line|row) 2.* 20[ .]", said)
        found = read(name, content, ReadingOptions(max_characters=20, skip_bad_rows=True))
        assert (found.texts, found.skipped.count) == (["one", "two"], 1), name
    assert texts_of("a.txt", b"x" * 20 + b"\n", ReadingOptions(max_characters=20)) == ["x" * 20]
    assert texts_of("a.txt", b"x" * 20, ReadingOptions(max_characters=20)) == ["x" * 20]


# ------------------------------------------------------------------------------- whole files


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.docx", b"", f"a.docx is of no known kind; its name must end in {KINDS}."),
        ("a.gz", b"", f"a.gz is of no known kind; its name must end in {KINDS}."),
        ("a.parquet.gz", b"", f"a.parquet.gz is of no known kind; its name must end in {KINDS}."),
        ("a.csv", b"id,title\n1,x\n", "a.csv has no column 'text'; its columns: 'id', 'title'."),
        ("a.csv", b"id;title\n1;x\n", "a.csv has no column 'text'; its columns: 'id', 'title'."),
        ("a.csv", b'"id";"title"\n1;x\n', "a.csv has no column 'text'; its columns: 'id', 'title'."),
        ("a.json", b'{"text": ["x"]', "a.json is not JSON at element 1: Expecting ',' delimiter."),
        ("a.json", b'["x" "y"]', "a.json is not JSON at element 2: a comma is missing before it."),
        ("a.json", b'["x", "y"', "a.json is not JSON at element 3: the list has no end."),
        ("a.json", b'["x"] "y"', "a.json is not JSON at element 2: something comes after the list."),
        ("a.json", b'["x",]', "a.json is not JSON at element 2: Expecting value."),
        ("a.json", b"[" * 200_000, "a.json is not JSON at element 1: it is nested too deeply."),
        ("a.txt", "one\n".encode("utf-16-le"), f"a.txt {NO_MARK}"),
        ("a.txt", b"\xff\xfea", "a.txt is not the text that its byte-order mark tells of."),
        ("a.jsonl", PACKED, "a.jsonl is packed with gzip, which its name does not say."),
        ("a.txt.gz", b"one", "a.txt.gz is not a whole gzip file; pack it again."),
        ("a.txt.gz", PACKED[:-9], "a.txt.gz is not a whole gzip file; pack it again."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(name: str, content: bytes, sentence: str) -> None:
    assert refusal(name, content, SKIPPING) == sentence


@pytest.mark.parametrize("content", [b"not parquet at all", b""])
def test_a_file_that_is_no_parquet_is_told(content: bytes) -> None:
    assert refusal("a.parquet", content).startswith("a.parquet is not a Parquet file: ")


def test_an_empty_file_has_no_texts() -> None:
    assert [texts_of(name, b"") for name in ("a.txt", "a.jsonl", "a.json", "a.txt.gz")] == 4 * [[]]
    assert texts_of("a.json", b"[]") == []
    assert refusal("a.csv", b"") == "a.csv has no column 'text'; its columns: none."


class Counted(io.BytesIO):
    """Knows how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.taken += len(part)
        return part


@pytest.mark.parametrize("line", [b"x" * 2**20, b"\n" * 2**20, b'"x"\n' * 2**18])
@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "json"])
def test_what_is_packed_into_little_is_unpacked_up_to_a_limit(suffix: str, line: bytes) -> None:
    bomb = Counted(gzip.compress(line * 64, 9))
    options = ReadingOptions(max_bytes=2**20, max_characters=1000, skip_bad_rows=True)
    with pytest.raises(FileProblem) as problem:
        read_texts(f"a.{suffix}.gz", bomb, options)
    told = str(problem.value)
    assert str(EXPANSION * 2**20) in told or str(2**20) in told or "no column" in told, told
    assert bomb.taken < len(bomb.getvalue()) / 4


def test_a_column_of_parquet_is_unpacked_up_to_a_limit() -> None:
    options = ReadingOptions(max_bytes=2**16)
    too_much = f"a.parquet has more than {2**18} bytes of texts when unpacked."
    assert refusal("a.parquet", parquet({"text": ["x" * 2**19]}), options) == too_much
    # In the file it is one value and a thousand references to it.
    repeated = parquet({"text": pa.array(["x" * 1000] * 1000).dictionary_encode()})
    assert refusal("a.parquet", repeated, options) == too_much
    assert texts_of("a.parquet", parquet({"text": ["x"], "big": ["x" * 2**19]}), options) == ["x"]


def test_a_long_value_of_many_rows_is_in_memory_once() -> None:
    value, rows = "x" * 2**20, 2000
    buffer = io.BytesIO()
    table = pa.table({"text": pa.array([value]).take(pa.array([0] * rows))})
    pq.write_table(table, buffer, dictionary_pagesize_limit=2**24)
    del table
    content = buffer.getvalue()
    assert len(content) < 2**17
    before = pa.total_allocated_bytes()
    found = texts_in("a.parquet", io.BytesIO(content), ReadingOptions(), SkippedRows())
    assert next(found) == value
    # As strings of their own a thousand rows would be a gigabyte.
    assert pa.total_allocated_bytes() - before < 2**26
    assert sum(len(text) for text in found) == (rows - 1) * len(value)


@pytest.mark.parametrize("place", range(40))
def test_a_parquet_file_with_a_byte_that_has_changed_is_read_or_refused(place: int) -> None:
    content = bytearray(parquet({"text": [f"text {row}" for row in range(50)]}))
    content[-9 - 7 * place] ^= 0x15
    with suppress(FileProblem):
        read("a.parquet", bytes(content))


def test_rows_without_a_text_are_no_more_than_texts_may_be() -> None:
    options = ReadingOptions(max_texts=100, skip_bad_rows=True)
    nothing = parquet({"text": pa.nulls(10**6, pa.string())})
    assert refusal("a.parquet", nothing, options) == (
        "a.parquet has more than 100 texts and bad rows, which is the limit."
    )


def test_no_more_texts_are_read_than_may_be() -> None:
    options = ReadingOptions(max_texts=3)
    assert texts_of("a.txt", b"a\nb\nc\n", options) == ["a", "b", "c"]
    assert refusal("a.txt", b"a\nb\nc\nd", options) == "a.txt has more than 3 texts, which is the limit."
