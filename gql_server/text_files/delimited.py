"""Comma-separated values, and those separated otherwise, with a first line of names."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from gql_server.text_files.problems import FileProblem

COMMAS_FIRST = (",", ";", "\t")
TABS_FIRST = ("\t", ",", ";")
MAX_FIELD = 2**26
"""Characters of a cell; of a cell, csv keeps four bytes a character."""
# The module's own limit, 131,072, is for the whole process, and refuses cells that nobody asked for.
csv.field_size_limit(MAX_FIELD)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
"""What Excel takes from a first line."""


class Record(NamedTuple):
    """A row: the number of its first line, and its cells or why it has none."""

    line: int
    cells: list[str]
    problem: str | None = None


class _Head(NamedTuple):
    """The first line's names with a delimiter, or why it has none with that."""

    columns: list[str]
    delimiter: str
    problem: FileProblem | None


class _Lines:
    """Gives lines, and knows whether somebody has asked for one beyond the last."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except StopIteration:
            self.ended = True
            raise


class DelimitedText:
    """The records below a first line of names, ``columns``.

    ``delimiter`` is the first of those given with which the first line has all wanted names, else the one
    with which it has most; where a line ``sep=;`` stands above, as Excel writes it, that one.
    """

    def __init__(
        self, name: str, lines: Iterable[str], delimiters: Sequence[str], wanted: Sequence[str]
    ) -> None:
        """Read the first line; FileProblem where it is none, or a wanted name stands in it twice."""
        self._name = name
        self._lines = _Lines(lines)
        self._lines_before = 0
        first = next(self._lines, "")
        if separator := _SEPARATOR_LINE.fullmatch(first):
            delimiters, self._lines_before = [separator[1]], 1
            first = next(self._lines, "")
        while not first.strip() and not self._lines.ended:
            self._lines_before += 1
            first = next(self._lines, "")
        taken = [first]
        heads = [self._head(taken, delimiter) for delimiter in delimiters]
        self.columns, self.delimiter = _chosen(heads, wanted)
        # Looking for the end of a name in quotation marks may have taken all lines.
        self._lines = _Lines(chain(taken, self._lines))
        for column in wanted:
            if self.columns.count(column) > 1:
                raise FileProblem(f"{name} has more than one column {column!r}; give each a name of its own.")
        # Without strict, a quotation mark out of its place joins rows or goes lost without a word.
        self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        next(self._reader, None)

    def _head(self, taken: list[str], delimiter: str) -> _Head:
        """Read the names with a delimiter; lines that are taken for that are added to those taken before."""

        def taking() -> Iterator[str]:
            for line in self._lines:
                taken.append(line)
                yield line

        lines = _Lines(chain(tuple(taken), taking()))
        line = self._lines_before + 1
        try:
            columns = next(csv.reader(lines, delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            problem = FileProblem(f"{self._name} is not CSV in line {line}: {error}.")
            return _Head([], delimiter, self._not_closed(line) if lines.ended else problem)
        return _Head(columns, delimiter, None)

    def _not_closed(self, line: int) -> FileProblem:
        return FileProblem(f"{self._name} has a quotation mark in the row of line {line} that is not closed.")

    def __iter__(self) -> Iterator[Record]:
        """Give the records, blank lines left out. FileProblem where a quotation mark is never closed."""
        while True:
            line = self._lines_before + self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                # The next row begins in the middle of a cell then.
                if self._lines.ended or self._reader.line_num > line - self._lines_before:
                    raise self._not_closed(line) from None
                yield Record(line, [], f"is not CSV: {error}")
                continue
            if self._lines.ended:
                raise self._not_closed(line)
            if cells:
                yield Record(line, cells, self._surplus(cells))

    def _surplus(self, cells: list[str]) -> str | None:
        """Say that there are more cells than names: one may have come apart at a delimiter."""
        if len(cells) <= len(self.columns) or not any(cells[len(self.columns) :]):
            return None
        return f"has {len(cells)} cells, but the first line {len(self.columns)}; is a quotation mark missing?"


def _chosen(heads: Sequence[_Head], wanted: Sequence[str]) -> tuple[list[str], str]:
    problems = [head.problem for head in heads if head.problem]
    found = [head for head in heads if not head.problem]
    whole = [head for head in found if set(wanted) <= set(head.columns)]
    found = whole[:1] or sorted(found, key=lambda head: len(head.columns), reverse=True)
    # With another delimiter than its own, a line is one name, or has quotation marks out of place.
    if problems and not whole and (not found or len(found[0].columns) < 2):
        raise problems[0]
    return found[0].columns, found[0].delimiter
