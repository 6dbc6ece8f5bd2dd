"""JSON lines, and JSON with one list or with values one after the other."""

import json
from collections.abc import Iterator
from typing import Any, TextIO

from gql_server.text_files.json_names import RepeatedName, repeated_names
from gql_server.text_files.problems import FileProblem, json_problem
from gql_server.text_files.rows import Row, named, value_at
from gql_server.text_files.streams import lines

_SPACE = " \t\n\r"
_PART = 2**20
_OF_NUMBERS = ".eE"
"""What a number goes on with after a digit where the rest of it has not been read yet."""


def json_line_rows(text: TextIO, text_field: str, longest: int) -> Iterator[Row]:
    """Give a row for each line that is not blank, none of them longer than ``longest`` characters."""
    for number, line in lines(text, longest):
        place = f"line {number}"
        if line is None:
            yield Row(place, None, f"has more than {longest} characters")
        elif line.strip():
            yield _row(place, line, text_field)


def _row(place: str, line: str, text_field: str) -> Row:
    try:
        return row_of(place, json.loads(line), text_field, line)
    except (ValueError, RecursionError) as error:
        return Row(place, None, f"is not JSON: {json_problem(error)}")


def row_of(place: str, value: Any, text_field: str, source: str) -> Row:
    """Return what a JSON value has in its text field; a string is a text itself."""
    if isinstance(value, str):
        return Row(place, value)
    if not isinstance(value, dict):
        return Row(place, None, "is neither an object nor a string")
    try:
        found = value_at(value, text_field)
    except KeyError:
        return Row(place, None, f"has no {text_field!r}; it has {named(list(value))}")
    if _may_repeat(source, text_field) and _is_repeated(source, text_field):
        return Row(place, None, f"has {text_field!r} more than once")
    return Row(place, found)


def _may_repeat(source: str, path: str) -> bool:
    """Whether a JSON text may have a name on a path twice, told without reading it once more."""
    first, last = path.split(".")[0], path.rsplit(".", 1)[-1]
    return "\\u" in source or any(source.count(f'"{name}"') > 1 for name in (path, first, last))


def _is_repeated(source: str, path: str) -> bool:
    try:
        value_at(json.loads(source, object_pairs_hook=_Members), path)
    except RepeatedName:
        return True
    return False


class _Members(dict[str, Any]):
    """An object that does not give what it has twice; all else of it does not matter."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._repeated = repeated_names(pairs) if len(self) < len(pairs) else set()

    def __getitem__(self, name: str) -> Any:
        if name in self._repeated:
            raise RepeatedName(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


class _Buffer:
    """The rest of a text that is read in parts."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.rest, self.place, self.ended = "", 0, False

    def more(self) -> bool:
        """Read on, as much again as there is; return whether there was anything."""
        part = self._text.read(max(_PART, len(self.rest) - self.place))
        self.rest, self.place = self.rest[self.place :] + part, 0
        self.ended = self.ended or not part
        return bool(part)

    def next_character(self) -> str:
        """Go to the next character that is no space, and return it; nothing at the end."""
        while True:
            while self.place < len(self.rest) and self.rest[self.place] in _SPACE:
                self.place += 1
            if self.place < len(self.rest):
                return self.rest[self.place]
            if not self.more():
                return ""


def json_rows(text: TextIO, name: str, text_field: str, longest: int) -> Iterator[Row]:
    """Give a row for each element of a list, or for each of several values; a part in memory at a time.

    Raises FileProblem where it is not JSON.
    """
    buffer, number = _Buffer(text), 0
    is_list = buffer.next_character() == "["
    buffer.place += is_list
    while (first := buffer.next_character()) not in ("", "]"):
        if is_list and number:
            if first != ",":
                raise _not_json(name, number + 1, "a comma is missing before it")
            buffer.place += 1
            buffer.next_character()
        number += 1
        value, source = _value(buffer, name, number, longest)
        yield row_of(f"element {number}", value, text_field, source)
    if is_list != (first == "]"):
        raise _not_json(name, number + 1, "the list has no end" if is_list else "a list ends there")
    buffer.place += is_list
    if buffer.next_character():
        raise _not_json(name, number + 1, "something comes after the list")


def first_json_value(text: TextIO, name: str, longest: int) -> Any:
    """Return the first of several values, or of a list's; None where there is none, or no JSON."""
    buffer = _Buffer(text)
    buffer.place += buffer.next_character() == "["
    if buffer.next_character() in ("", "]"):
        return None
    try:
        return _value(buffer, name, 1, longest)[0]
    except FileProblem:
        return None


def _value(buffer: _Buffer, name: str, number: int, longest: int) -> tuple[Any, str]:
    """Take the next value, and the text that it stands in."""
    decoder = json.JSONDecoder()
    while True:
        problem: ValueError | RecursionError
        try:
            value, end = decoder.raw_decode(buffer.rest, buffer.place)
            # What ends with the part that was read may go on after it, such as a number.
            if buffer.ended or (end < len(buffer.rest) and buffer.rest[end] not in _OF_NUMBERS):
                source = buffer.rest[buffer.place : end]
                buffer.place = end
                return value, source
        except RecursionError as error:
            raise _not_json(name, number, json_problem(error)) from None
        except ValueError as error:
            problem = error
            if buffer.ended:
                reason = problem.msg if isinstance(problem, json.JSONDecodeError) else json_problem(problem)
                raise _not_json(name, number, reason) from None
        if len(buffer.rest) - buffer.place > longest:
            raise _not_json(name, number, f"it is no value, or has more than {longest} characters")
        buffer.more()


def _not_json(name: str, number: int, reason: str) -> FileProblem:
    return FileProblem(f"{name} is not JSON at element {number}: {reason}.")
