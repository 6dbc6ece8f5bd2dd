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
        head = self._head(first)
        self.columns, self.delimiter = _chosen(head, delimiters, wanted)
        for column in wanted:
            if self.columns.count(column) > 1:
                raise FileProblem(f"{name} has more than one column {column!r}; give each a name of its own.")
        # Without strict, a quotation mark out of its place joins rows or goes lost without a word.
        self._reader = csv.reader(chain(head, self._lines), delimiter=self.delimiter, strict=True)
        next(self._reader, None)

    def _head(self, first: str) -> list[str]:
        """Return the lines of the first record, blank ones above it left out."""
        while not first.strip() and not self._lines.ended:
            self._lines_before += 1
            first = next(self._lines, "")
        taken: list[str] = []

        def taking() -> Iterator[str]:
            for line in chain([first], self._lines):
                taken.append(line)
                yield line

        try:
            next(csv.reader(taking()), None)
        except csv.Error as error:
            reason = f"{self._name} is not CSV in line {self._lines_before + 1}: {error}."
            raise FileProblem(reason) from None
        if first and self._lines.ended:
            raise self._not_closed(self._lines_before + 1)
        return taken

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


def _chosen(head: list[str], delimiters: Sequence[str], wanted: Sequence[str]) -> tuple[list[str], str]:
    found = [(next(csv.reader(head, delimiter=delimiter), []), delimiter) for delimiter in delimiters]
    whole = [one for one in found if set(wanted) <= set(one[0])]
    return whole[0] if whole else max(found, key=lambda one: len(one[0]))
