"""What is wrong with a file as a whole, or with one of its rows."""

import json


class FileProblem(ValueError):
    """A file cannot be read; the message is a sentence for people."""


class RowProblem(Exception):
    """A row holds no text; the message goes on from "row 3 …"."""


def json_problem(error: ValueError | RecursionError) -> str:
    """Return what is wrong with a text that ``json.loads`` has not taken, without Python's own terms."""
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it has a number of too many digits"
