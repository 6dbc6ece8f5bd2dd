"""Files of concepts, parsed without torch and checked against an SAE's size.

They are CSV, mi_crow's JSON, or JSON lines as Neuronpedia publishes its explanations, packed or not.
"""

import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from gql_server.errors import FieldProblem, InvalidInput
from gql_server.services.checks import Checks, visible
from gql_server.telemetry.plain_text import is_plain
from gql_server.text_files.delimited import COMMAS_FIRST, DelimitedText
from gql_server.text_files.json_names import RepeatedName, named_once
from gql_server.text_files.problems import FileProblem, json_problem
from gql_server.text_files.rows import has_half_characters
from gql_server.text_files.streams import GZIP_MAGIC, decoded_whole, unpacked

COLUMNS = ("neuron_idx", "concept_name", "score")
LINE_FIELDS = ("index", "description")
"""Of JSON lines; the score is optional there."""
MAX_CONCEPT_NAME_LENGTH = 500
MAX_FILE_SIZE = 64 * 2**20
"""Of a file of concepts, in bytes or characters, unpacked: room for a million neurons."""


ROWS_AT_ONCE = 1000


class ImportedConcept(msgspec.Struct, frozen=True, array_like=True):
    """A neuron's name. A missing score is the lowest."""

    neuron_index: int
    name: str
    score: float | None
    row_count: int = 1
    """Rows of the file for this neuron, of which this is the best."""
    note: str | None = None
    """Which a program gives; files have none."""

    @property
    def rank(self) -> float:
        """The score to compare by."""
        return -math.inf if self.score is None else self.score


def take(
    content: str | Path,
    format: Literal["csv", "json"] | None,
    path: Sequence[str],
    n_latents: int,
    taken: Path,
) -> list[FieldProblem]:
    """Write the best row of each neuron in a file into ``taken``, or return what is wrong with the file.

    Args:
        content: Of the file, or where it lies.
        format: None: told from the content.
        path: The field of the input that it is.
        n_latents: Neurons of the SAE.
        taken: A file, in which ``taken_concepts`` finds the rows by their neurons' numbers.
    """
    try:
        text = content if isinstance(content, str) else decoded_whole(_whole(content), "The file")
        rows = parse(text, format or format_of(text), path, n_latents)
    except FileProblem as problem:
        return [FieldProblem(path, str(problem))]
    except InvalidInput as refusal:
        return refusal.problems
    counts = Counter(row.neuron_index for row in rows)
    best = dict[int, ImportedConcept]()
    for row in rows:
        if row.neuron_index not in best or row.rank > best[row.neuron_index].rank:
            best[row.neuron_index] = row
    ordered = iter(sorted(best))
    with taken.open("wb") as file:
        while part := list(islice(ordered, ROWS_AT_ONCE)):
            concepts = [msgspec.structs.replace(best[one], row_count=counts[one]) for one in part]
            file.write(msgspec.json.encode(concepts) + b"\n")
    return []


def _whole(path: Path) -> bytes:
    """Return a file's bytes, unpacked if they are packed with gzip. FileProblem if they are too many."""
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        return unpacked(file, "The file.gz" if is_packed else "The file", MAX_FILE_SIZE).read()


def taken_concepts(taken: Path) -> Iterator[list[ImportedConcept]]:
    """Give what ``take`` has written, some at a time."""
    with taken.open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line, type=list[ImportedConcept])


def parse(
    content: str, format: Literal["csv", "json"], path: Sequence[str], n_latents: int
) -> list[ImportedConcept]:
    """Return the rows of a file.

    Raises:
        InvalidInput: It names each row that is wrong; a file without any concept is wrong as a whole.
    """
    checks = Checks()
    content = content.lstrip("\ufeff")
    read = _read_csv if format == "csv" else _read_json
    concepts = [
        concept
        for where, neuron, name, score in read(content, path, n_latents, checks)
        if (concept := _concept(where, neuron, name, score, path, n_latents, checks)) is not None
    ]
    checks.done()
    checks.require(bool(concepts), path, "There is no concept in it; what the SAE has was left as it is.")
    checks.done()
    return concepts


def format_of(content: str) -> Literal["csv", "json"]:
    """Tell an uploaded file's format by its first character."""
    return "json" if content.lstrip("\ufeff").lstrip().startswith(("{", "[")) else "csv"


Row = tuple[str, Any, Any, Any]
"""Where it stands, and its neuron, name and score as they were read."""


def _read_csv(content: str, path: Sequence[str], n_latents: int, checks: Checks) -> Iterator[Row]:
    try:
        table = DelimitedText("The CSV", io.StringIO(content, newline=""), COMMAS_FIRST, COLUMNS)
        missing = [column for column in COLUMNS if column not in table.columns]
        if missing:
            checks.problem(
                path, f"The CSV lacks {', '.join(missing)}; its first line must name {', '.join(COLUMNS)}."
            )
            return
        places = [table.columns.index(column) for column in COLUMNS]
        for record in table:
            where = f"line {record.line}"
            if record.problem is not None:
                checks.problem(path, f"In {where}: it {record.problem}.")
            elif len(record.cells) != len(table.columns):
                checks.problem(path, f"In {where} the number of cells differs from that of the first line.")
            else:
                neuron, name, score = (record.cells[place] for place in places)
                # Where semicolons stand between cells, a comma does in numbers.
                yield where, neuron, name, score.replace(",", ".") if table.delimiter == ";" else score
    except FileProblem as problem:
        checks.problem(path, str(problem))


def _read_json(content: str, path: Sequence[str], n_latents: int, checks: Checks) -> Iterator[Row]:
    if _is_lines(content):
        yield from _read_lines(content, path, checks)
        return
    try:
        data = json.loads(content, object_pairs_hook=named_once)
    except RepeatedName as repeated:
        checks.problem(path, f"It has {repeated.args[0]!r} more than once in one object.")
        return
    except (ValueError, RecursionError) as error:
        checks.problem(path, f"It is not JSON: {json_problem(error)}.")
        return
    concepts = data.get("concepts", data) if isinstance(data, dict) else None
    if not isinstance(concepts, dict):
        checks.problem(path, 'It must be an object with "concepts": {"12": {"name": …, "score": …}}.')
        return
    size = data.get("n_size", n_latents)
    message = f'"n_size" is {size!r}; this SAE\'s number of neurons is {n_latents}.'
    checks.require(size == n_latents, path, message)
    for neuron, entry in concepts.items():
        if neuron == "n_size" and concepts is data:
            continue
        # mi_crow's older files have a list of concepts per neuron.
        for one in entry if isinstance(entry, list) else [entry]:
            if isinstance(one, dict) and "name" in one:
                yield f"concept {neuron!r}", neuron, one["name"], one.get("score")
            else:
                checks.problem(path, f'Concept {neuron!r} must be an object with "name" and "score".')


def _is_lines(content: str) -> bool:
    """Whether the first line is an explanation by itself."""
    try:
        first = json.loads(content.lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and first.keys() >= set(LINE_FIELDS)


def _read_lines(content: str, path: Sequence[str], checks: Checks) -> Iterator[Row]:
    """Give Neuronpedia's explanations: of several for a neuron, the one with the highest score counts."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line, object_pairs_hook=named_once)
        except RepeatedName as repeated:
            checks.problem(path, f"In line {number}: it has {repeated.args[0]!r} more than once.")
            continue
        except (ValueError, RecursionError) as error:
            checks.problem(path, f"In line {number}: it is not JSON: {json_problem(error)}.")
            continue
        if isinstance(entry, dict) and entry.keys() >= set(LINE_FIELDS):
            neuron, name = (entry[field] for field in LINE_FIELDS)
            yield f"line {number}", neuron, name, entry.get("score")
        else:
            checks.problem(path, f"In line {number}: it must be an object with {' and '.join(LINE_FIELDS)}.")


def _concept(
    where: str, neuron: Any, name: Any, score: Any, path: Sequence[str], n_latents: int, checks: Checks
) -> ImportedConcept | None:
    index = _whole_number(neuron)
    value = _number(score)
    problem = None
    if index is None or not 0 <= index < n_latents:
        problem = f"{neuron!r} is none of the SAE's neurons, 0 to {n_latents - 1}"
    elif not isinstance(name, str) or not visible(name) or len(name) > MAX_CONCEPT_NAME_LENGTH:
        problem = f"a name must have 1 to {MAX_CONCEPT_NAME_LENGTH} characters"
    elif not is_plain(name.strip()):
        problem = "a name is one line, without control characters and marks of the writing direction"
    elif has_half_characters(name):
        problem = "the name holds half a character"
    elif value is not None and not math.isfinite(value):
        problem = f"the score {score!r} is not a finite number"
    if problem is not None:
        checks.problem(path, f"In {where}: {problem}.")
        return None
    assert index is not None
    return ImportedConcept(index, name.strip(), value)


def _whole_number(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _number(value: Any) -> float | None:
    """Return a score; None where there is none, NaN where it is no number."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    # Python would take 1_0 and the digits of other scripts too.
    if isinstance(value, bool) or (isinstance(value, str) and ("_" in value or not value.isascii())):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
