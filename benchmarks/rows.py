"""A line of the table that ``make bench`` writes, and how a benchmark hands its lines over.

Each benchmark is a program of its own: ``python -m benchmarks.NAME`` prints its lines, ``--json FILE`` also
writes them for bench.py, which puts all of them together.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

HEADER = ("what", "ours", "against", "theirs", "measured", "goal", "reached", "precision")
UNKNOWN = "–"


class Row(msgspec.Struct, frozen=True):
    """One comparison. Where there is nothing to compare with, ``against`` and ``theirs`` are empty.

    ``precision`` is that of both sides; ``reached`` is None where there is no goal.
    """

    what: str
    ours: str
    measured: str
    precision: str
    against: str = ""
    theirs: str = ""
    goal: str = ""
    reached: bool | None = None


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def show(self, unit: str, form: str = ",.0f") -> str:
        """Write the median, and in brackets the lowest and the highest."""
        return f"{self.median:{form}} {unit} ({self.lowest:{form}} to {self.highest:{form}})"


def at_least(
    what: str, ours: Spread, against: str, theirs: Spread, goal: float, unit: str, precision: str
) -> Row:
    """Compare two speeds: ours is to be ``goal`` times theirs or more."""
    ratio = ours.median / theirs.median
    return Row(
        what=what,
        ours=ours.show(unit),
        against=against,
        theirs=theirs.show(unit),
        measured=f"{ratio:.2f} ×",
        goal=f"≥ {goal:g} ×",
        reached=ratio >= goal,
        precision=precision,
    )


def at_most(
    what: str,
    ours: Spread,
    against: str,
    theirs: Spread,
    goal: float,
    unit: str,
    precision: str,
    form: str = ",.1f",
) -> Row:
    """Compare two durations or sizes: ours is to be ``goal`` times theirs or less."""
    ratio = ours.median / theirs.median
    return Row(
        what=what,
        ours=ours.show(unit, form),
        against=against,
        theirs=theirs.show(unit, form),
        measured=f"{ratio:.2f} ×",
        goal=f"≤ {goal:g} ×",
        reached=ratio <= goal,
        precision=precision,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the lines as a table in Markdown."""
    lines = [HEADER, ("---",) * len(HEADER), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    reached = {True: "yes", False: "no", None: UNKNOWN}[row.reached]
    return (
        row.what,
        row.ours,
        row.against or UNKNOWN,
        row.theirs or UNKNOWN,
        row.measured,
        row.goal or UNKNOWN,
        reached,
        row.precision,
    )


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a command line that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, help="a file to write the lines of the table into")
    return made


def hand_over(rows: Sequence[Row], given: argparse.Namespace) -> None:
    """Print the lines, and write them where bench.py wants them."""
    print(table(rows))
    if given.json is not None:
        given.json.write_bytes(msgspec.json.encode(rows))


def read(path: Path) -> list[Row]:
    """Read what hand_over wrote."""
    return msgspec.json.decode(path.read_bytes(), type=list[Row])
