"""What was sent and what came back, counted for people."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tests.fuzz.cases import Case
from tests.fuzz.checks import outcome
from tests.fuzz.sending import Answer

SLOWEST = 5
SHOWN = 20
LONGEST_REQUEST = 3000
VARYING = re.compile(r"[0-9a-f]{16}|[0-7][0-9A-HJKMNP-TV-Z]{25}|\d+")


@dataclass
class Finding:
    """Something that no answer may have, with the request that had it first."""

    what: str
    case: Case | None
    sent: dict[str, Any] = field(default_factory=dict)
    count: int = 1

    def show(self, console: Console, seed: int) -> None:
        """Print it, and how to see it again."""
        console.print(f"[red]{escape(self.what)}[/] ({self.count}×)", highlight=False, soft_wrap=True)
        if self.case is None:
            return
        again = f"python -m tests.fuzz --seed {seed} --only {self.case.number}"
        console.print(f"  again alone: {again}", highlight=False, soft_wrap=True)
        sent = json.dumps(self.sent)[:LONGEST_REQUEST]
        console.print(f"  {self.case.way}: {escape(sent)}", highlight=False, soft_wrap=True)


@dataclass
class Tally:
    """The counts of one run."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of (outcome, way)."""
    fields: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def operations(self) -> int:
        """How many were sent."""
        return self.outcomes.total()

    def note(self, case: Case, answer: Answer) -> None:
        """Count an answer."""
        came = outcome(answer)
        self.outcomes[came, case.way] += 1
        self.fields[case.field] += 1
        self.answered[case.field] += came == "answered"
        what = f"{case.number} {case.field} ({case.way})"
        self.slowest = sorted([*self.slowest, (answer.seconds, what)], reverse=True)[:SLOWEST]

    def find(self, what: str, case: Case | None = None, sent: dict[str, Any] | None = None) -> None:
        """Note something that may not be; the same again is counted only."""
        kind = VARYING.sub("…", what)[:150]
        if kind in self.findings:
            self.findings[kind].count += 1
        else:
            self.findings[kind] = Finding(what, case, sent or {})

    def show(self, console: Console, seed: int) -> None:
        """Print everything."""
        console.print(_outcomes(self))
        console.print(_fields(self))
        slowest = ", ".join(f"{seconds:.2f} s {what}" for seconds, what in self.slowest)
        console.print(f"Slowest answers: {slowest}", highlight=False)
        console.print(", ".join(f"{name}: {count}" for name, count in self.notes.items()), highlight=False)
        for finding in [*self.findings.values()][:SHOWN]:
            finding.show(console, seed)
        result = f"[red]{len(self.findings)} findings[/]" if self.findings else "[green]no findings[/]"
        rate = f"{self.operations} operations in {self.seconds:.0f} s, seed {seed}"
        console.print(f"{rate}: {result}", highlight=False)


def _outcomes(tally: Tally) -> Table:
    ways = sorted({way for _, way in tally.outcomes})
    table = Table(Column("came to", no_wrap=True), *ways, "together", title="Operations")
    names = Counter[str]()
    for (name, _), count in tally.outcomes.items():
        names[name] += count
    for name, count in names.most_common():
        table.add_row(name, *(str(tally.outcomes[name, way]) for way in ways), str(count))
    sums = [sum(tally.outcomes[name, way] for name in names) for way in ways]
    table.add_row("together", *map(str, sums), str(tally.operations))
    return table


def _fields(tally: Tally) -> Table:
    table = Table("first field", "sent", "answered", title="What was asked for")
    for name, count in tally.fields.most_common():
        table.add_row(name, str(count), str(tally.answered[name]))
    return table
