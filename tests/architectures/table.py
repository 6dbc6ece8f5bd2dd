"""The table of what passes, for people at a terminal and as a page."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tests.architectures.runner import Outcome
from tests.architectures.steps import STEPS


def show(console: Console, outcome: Outcome, trace: bool = False) -> None:
    """Print a line for an architecture, and one for each step that failed."""
    marks = "".join("·" if step in outcome.passed else "✗" for step in STEPS)
    status = "pass" if outcome.passes else "FAIL"
    console.print(f"{status} {marks} {outcome.model_type:24} {outcome.tokenizer:36} {outcome.seconds:5.1f} s")
    for step, sentence in outcome.failures.items():
        console.print(f"       {step}: {escape(sentence[:400])}")
    if trace and outcome.trace:
        console.print(escape(outcome.trace))


def write(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the table as a page in Markdown."""
    rows = [_row(outcome) for outcome in outcomes]
    path.write_text("\n".join(rows) + "\n")


def _row(outcome: Outcome) -> str:
    failed = "; ".join(f"{step}: {sentence}" for step, sentence in outcome.failures.items())
    return f"| `{outcome.model_type}` | {outcome.tokenizer} | {failed or 'every step'} |"
