"""The table of what passes, for people at a terminal and as a page."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from benchmarks.pages import Marks
from tests.architectures.overrides import KNOWN, LEFT_OUT, STEPWISE
from tests.architectures.runner import MAKING, Outcome
from tests.architectures.steps import STEPS
from tests.architectures.tokenizer_kinds import KINDS

MARKS = Marks("make architectures")


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
    """Write what passes, and what does not and why, between the page's marks."""
    made = [outcome for outcome in outcomes if outcome.made]
    good = [outcome for outcome in made if outcome.passes]
    parts = [
        f"With transformers {version('transformers')}, {len(good)} of {len(made)} pass every step:",
        _passing(good),
        "The others:" if len(good) < len(made) else "",
        "\n".join(_failing(outcome) for outcome in made if not outcome.passes),
        "Whose steering is compared with the steps of transformers' own `generate`, which give other numbers "
        "than whole passes:",
        "\n".join(f"- `{name}`: {reason}" for name, reason in STEPWISE.items()),
        "Left out, being no decoders of text by themselves, or none that transformers runs alone:",
        "\n".join(f"- `{name}` {reason}" for name, reason in _left_out(outcomes).items()),
    ]
    page = path.read_text()
    path.write_text(MARKS.put_between(page, "\n\n".join(part for part in parts if part)))


def _passing(good: Sequence[Outcome]) -> str:
    by_kind = {kind: sorted(one.model_type for one in good if one.tokenizer == kind) for kind in KINDS}
    return "\n".join(
        ["| tokenizer | model types |", "| --- | --- |"]
        + [f"| {kind} | {', '.join(f'`{name}`' for name in names)} |" for kind, names in by_kind.items()]
    )


def _failing(outcome: Outcome) -> str:
    """Say which steps fail, why, and what works."""
    why = KNOWN.get(outcome.model_type) or "; ".join(
        f"{step}: {sentence}" for step, sentence in outcome.failures.items()
    )
    works = f"Works: {', '.join(outcome.passed)}." if outcome.passed else "Nothing works."
    return f"- `{outcome.model_type}` ({', '.join(outcome.failures)}): {why.rstrip('.')}. {works}"


def _left_out(outcomes: Sequence[Outcome]) -> dict[str, str]:
    unmade = {
        one.model_type: f"could not be made: {one.failures[MAKING]}" for one in outcomes if not one.made
    }
    return LEFT_OUT | unmade
