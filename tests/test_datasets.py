"""Texts in and out of files."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from gql_server.datasets import (
    ROWS_PER_BATCH,
    TextDataset,
    built_in_python_reference,
    read_content,
    read_file,
    write_texts,
)
from gql_server.files import TEMPORARY_PREFIX

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def parquet(columns: dict[str, list[object]]) -> bytes:
    return parquet_of(pa.table(columns))


def parquet_of(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


TWO_OF_A_NAME = parquet_of(pa.table([["x"], ["y"]], names=["text", "text"]))


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, max_size=20))
def test_what_was_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    directory = tmp_path_factory.mktemp("dataset") / "texts"
    assert write_texts(directory, texts) == len(texts)
    dataset = TextDataset(directory)
    assert len(dataset) == len(texts)
    assert list(dataset) == texts
    assert [dataset[row] for row in range(len(texts))] == texts


def test_rows_are_found_across_batches_of_the_file(tmp_path: Path) -> None:
    count = 2 * ROWS_PER_BATCH + 7
    write_texts(tmp_path / "texts", (f"text {row}" for row in range(count)))
    dataset = TextDataset(tmp_path / "texts")
    assert len(dataset) == count
    assert dataset[ROWS_PER_BATCH] == f"text {ROWS_PER_BATCH}"
    assert dataset[count - 1] == f"text {count - 1}"
    expected = [f"text {row}" for row in range(ROWS_PER_BATCH - 2, 2 * ROWS_PER_BATCH + 3)]
    assert list(dataset.slice(ROWS_PER_BATCH - 2, 2 * ROWS_PER_BATCH + 3)) == expected
    assert list(dataset.slice(count - 1, count + 5)) == [f"text {count - 1}"]
    with pytest.raises(IndexError):
        dataset[count]


def test_memory_does_not_grow_with_what_was_read_of_a_file(tmp_path: Path) -> None:
    size = 64 * 2**20
    write_texts(tmp_path / "run", ("x" * 2**14 for _ in range(size // 2**14)))
    program = """
import re, sys
from pathlib import Path
from gql_server.datasets import TextDataset

def resident():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

dataset = TextDataset(Path(sys.argv[1]))
next(iter(dataset))
before = resident()
print(sum(len(text) for text in dataset), resident() - before)
"""
    told = subprocess.check_output([sys.executable, "-c", program, tmp_path / "run"], text=True).split()
    assert int(told[0]) == size
    # A batch of the file has 16 MB here.
    assert int(told[1]) < size * 3 / 4


def test_a_dataset_whose_texts_break_off_does_not_appear(tmp_path: Path) -> None:
    def broken() -> object:
        yield "one"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_texts(tmp_path / "texts", broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_nothing_temporary_is_left(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", ["one"])
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)] == []


def test_each_kind_of_file_gives_its_texts(tmp_path: Path) -> None:
    texts = ['He said "no", twice', "naïve\u2028line", "third"]
    rows = "\n".join(json.dumps({"id": row, "body": text}) for row, text in enumerate(texts))
    quoted = "".join('{},"{}"\r\n'.format(row, text.replace('"', '""')) for row, text in enumerate(texts))
    contents = {
        "a.txt": ("\n".join(texts) + "\n\n").encode(),
        "a.jsonl": rows.encode(),
        "a.ndjson": (rows + "\n").encode(),
        "a.CSV": ("\ufeffid,body\r\n" + quoted).encode(),
        "a.parquet": parquet({"id": [0, 1, 2], "body": list(texts)}),
    }
    for name, content in contents.items():
        assert read_content(name, content, "body") == texts, name
        (tmp_path / name).write_bytes(content)
        assert read_file(tmp_path / name, "body") == texts, name


def test_a_csv_field_may_hold_line_breaks() -> None:
    assert read_content("a.csv", b'text\r\n"one\ntwo"\r\nthree\r\n', "text") == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "a.docx",
            b"",
            "a.docx is of no known kind; its name must end in .txt, .csv, .jsonl, .ndjson, .parquet.",
        ),
        ("a.txt", b"ab\xff", "a.txt is not UTF-8 text: byte 2 cannot be decoded."),
        ("a.csv", b"id,title\n1,x\n", "a.csv has no column 'text'; its columns: 'id', 'title'."),
        ("a.csv", b"", "a.csv has no column 'text'; its columns: none."),
        ("a.csv", b"id,text\n1,x\n2\n", "a.csv: 'text' is not a string in row 2."),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": 3}', "a.jsonl: 'text' is not a string in line 3."),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}', "a.jsonl has no 'text' at line 2."),
        ("a.jsonl", b"[1]", "a.jsonl has no 'text' at line 1."),
        ("a.jsonl", b'{"text": "\\ud800"}', "a.jsonl: 'text' holds half a character in line 1."),
        ("a.jsonl", b"9" * 5000, "a.jsonl is not JSON at line 1: it has a number of too many digits."),
        ("a.parquet", parquet({"body": ["x"]}), "a.parquet has no column 'text'; its columns: 'body'."),
        ("a.parquet", parquet({"text": ["x", None]}), "a.parquet: 'text' is not a string in row 2."),
        ("a.parquet", parquet({"text": [1]}), "a.parquet: 'text' is not a string in row 1."),
        (
            "a.parquet",
            TWO_OF_A_NAME,
            "a.parquet has more than one column 'text'; give each a name of its own.",
        ),
        (
            "a.jsonl",
            b'{"text": "x"}\n{"text": ' + 200_000 * b"[" + 200_000 * b"]" + b"}",
            "a.jsonl is not JSON at line 2: it is nested too deeply.",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read_content(name, content, "text")


@pytest.mark.parametrize(
    ("name", "content", "beginning"),
    [
        ("a.jsonl", b'{"text": "x"}\n{oops', "a.jsonl is not JSON at line 2: "),
        ("a.parquet", b"not parquet at all", "a.parquet is not a Parquet file: "),
        ("a.parquet", b"", "a.parquet is not a Parquet file: "),
        ("a.csv", b"text\n" + b"x" * 200_000, "a.csv is not CSV at line 2: field larger than field limit"),
    ],
)
def test_a_file_of_another_kind_is_told_by_its_place(name: str, content: bytes, beginning: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(beginning)}"):
        read_content(name, content, "text")


def test_the_python_reference_is_prose() -> None:
    texts = built_in_python_reference()
    assert len(texts) > 800
    assert len(set(texts)) == len(texts)
    assert texts == built_in_python_reference()
    assert all(len(text) >= 80 and "\n" not in text and "  " not in text for text in texts)
    assert not any("::=" in text or ">>>" in text or "****" in text for text in texts)
    assert any(text.startswith("Dictionaries compare equal if and only if") for text in texts)
