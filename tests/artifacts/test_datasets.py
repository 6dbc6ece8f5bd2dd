"""Texts in and out of files."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from gql_server.artifacts.datasets import (
    ROWS_PER_BATCH,
    TextDataset,
    built_in_python_reference,
    link_texts,
    write_into,
    write_texts,
)
from gql_server.artifacts.files import TEMPORARY_PREFIX
from gql_server.text_files.rows import SkippedRows

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


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
from gql_server.artifacts.datasets import TextDataset

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


def test_what_was_left_out_of_a_dataset_is_noted_beside_it(tmp_path: Path) -> None:
    skipped = SkippedRows()

    def texts() -> Iterator[str]:
        yield "one"
        skipped.add("row 2 has null in 'text'")
        yield "three"

    write_texts(tmp_path / "texts", texts(), skipped)
    assert TextDataset(tmp_path / "texts").skipped == SkippedRows(1, ["row 2 has null in 'text'"])
    write_texts(tmp_path / "earlier", ["one"])
    assert TextDataset(tmp_path / "earlier").skipped == SkippedRows()


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    write_texts(tmp_path / "stored", ["one"])
    (tmp_path / "run").mkdir()
    link_texts(tmp_path / "stored", tmp_path / "run")
    with pytest.raises(FileExistsError):
        write_into(tmp_path / "run", ["another"])
    assert list(TextDataset(tmp_path / "stored")) == ["one"]


def test_the_python_reference_is_prose() -> None:
    texts = built_in_python_reference()
    assert len(texts) > 800
    assert len(set(texts)) == len(texts)
    assert texts == built_in_python_reference()
    assert all(len(text) >= 80 and "\n" not in text and "  " not in text for text in texts)
    assert not any("::=" in text or ">>>" in text or "****" in text for text in texts)
    assert any(text.startswith("Dictionaries compare equal if and only if") for text in texts)
