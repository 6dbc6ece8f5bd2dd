"""What was done and what was found, counted for people."""

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.faults.orders import KINDS
from tests.faults.processes import Target


@dataclass
class Check:
    """Something that must hold: how often it was looked at, and where it did not."""

    name: str
    count: int = 0
    failures: list[str] = field(default_factory=list)

    def that(self, holds: bool, otherwise: str) -> None:
        """Count one more look."""
        self.count += 1
        if not holds:
            self.failures.append(otherwise)


@dataclass
class Tally:
    """The counts of one run of the harness."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of (kind of job, target), while such a job was queued or ran."""
    states: Counter[str] = field(default_factory=Counter)
    """What the job was at: queued, before its first progress, at work, at its end."""
    idle_kills: int = 0
    """While there was no job; these do not count."""
    others: Counter[str] = field(default_factory=Counter)
    """Jobs, retries, cancellations and the like."""
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failures(self) -> list[str]:
        """Everything that does not hold."""
        return [f"{check.name}: {failure}" for check in self.checks for failure in check.failures]

    def check(self, name: str) -> Check:
        """Return the check of a name."""
        found = next((check for check in self.checks if check.name == name), None)
        if found is None:
            found = Check(name)
            self.checks.append(found)
        return found

    def show(self, console: Console, seed: int) -> None:
        """Print everything."""
        console.print(_kills(self))
        console.print(", ".join(f"{name}: {count}" for name, count in sorted(self.states.items())))
        console.print(f"kills while there was no job, not counted: {self.idle_kills}")
        console.print(_counts("What happened besides", self.others))
        console.print(_checks(self.checks))
        for failure in self.failures:
            console.print(f"[red]{escape(failure)}[/]", highlight=False, soft_wrap=True)
        result = "[red]FAILED[/]" if self.failures else "[green]all well[/]"
        kills, minutes = self.kills.total(), self.seconds / 60
        console.print(f"{kills} kills in {minutes:.1f} minutes, seed {seed}: {result}", highlight=False)


def _kills(tally: Tally) -> Table:
    table = Table("killed while there was a", *Target, "together", title="Kills")
    for kind in KINDS:
        counts = [tally.kills[kind, target] for target in Target]
        table.add_row(kind, *map(str, counts), str(sum(counts)))
    sums = [sum(tally.kills[kind, target] for kind in KINDS) for target in Target]
    table.add_row("together", *map(str, sums), str(sum(sums)))
    return table


def _counts(title: str, counts: Counter[str]) -> Table:
    table = Table("", "count", title=title)
    for name, count in sorted(counts.items()):
        table.add_row(name, str(count))
    return table


def _checks(checks: list[Check]) -> Table:
    table = Table("check", "looked at", "failed", title="At the end")
    for check in checks:
        table.add_row(check.name, str(check.count), str(len(check.failures)))
    return table
