"""What was measured, as the tables of docs/results.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.pages import Marks

MARKS = Marks("make results")
UNKNOWN = "–"


@dataclass(frozen=True)
class Measured:
    """One training and its scores; a score that is undefined is None.

    ``held_out`` and ``seen`` are fields of SaeEvaluation, over held-out texts and over texts of the training;
    ``seen`` and ``dead`` are None where they were not asked for.
    """

    title: str
    version: str
    settings: Mapping[str, Any]
    seconds: float
    token_count: int
    held_out: Mapping[str, float | None]
    seen: Mapping[str, float | None] | None = None
    dead: float | None = None
    """Share of neurons that fire on none of the training's tokens, as the neuron index counts them."""

    @property
    def tokens_per_second(self) -> float:
        return self.token_count / self.seconds


@dataclass(frozen=True)
class Circumstances:
    """What all trainings have in common."""

    n_latents: int
    k: int
    n_steps: int
    batch_size: int
    n_texts: int
    n_tokens: int
    n_held_out_texts: int
    n_held_out_tokens: int
    n_seen_texts: int


ROWS: Sequence[tuple[str, str, Callable[[Measured], float | None]]] = (
    ("explained variance, held out", ".4f", lambda one: one.held_out["explainedVariance"]),
    ("explained variance, seen", ".4f", lambda one: (one.seen or {}).get("explainedVariance")),
    ("MSE, held out", ".3f", lambda one: one.held_out["mse"]),
    ("L0, held out", ".1f", lambda one: one.held_out["l0"]),
    ("dead on the training's tokens", ".1%", lambda one: one.dead),
    ("dead on the held-out tokens", ".1%", lambda one: one.held_out["deadFraction"]),
    ("cross-entropy, original", ".4f", lambda one: one.held_out["ceLossOriginal"]),
    ("cross-entropy, reconstructed", ".4f", lambda one: one.held_out["ceLossReconstructed"]),
    ("cross-entropy, zero-ablated", ".4f", lambda one: one.held_out["ceLossZeroAblated"]),
    ("CE recovered", ".4f", lambda one: one.held_out["ceLossRecovered"]),
    ("KL divergence", ".4f", lambda one: one.held_out["klDivergenceReconstructed"]),
    ("seconds of training", ",.0f", lambda one: one.seconds),
    ("training tokens/s", ",.0f", lambda one: one.tokens_per_second),
)


def best_of_each(measured: Sequence[Measured]) -> list[Measured]:
    """Return, of the trainings with one title, the one that explains most variance of held-out text."""
    best: dict[str, Measured] = {}
    for one in measured:
        if one.title not in best or _explained(one) > _explained(best[one.title]):
            best[one.title] = one
    return list(best.values())


def _explained(one: Measured) -> float:
    explained = one.held_out["explainedVariance"]
    return float("-inf") if explained is None else explained


def render(measured: Sequence[Measured], circumstances: Circumstances, machine: str) -> str:
    """Write the part of the page between the marks."""
    parts = [machine, _common(circumstances), _best(best_of_each(measured)), _all(measured)]
    return "\n\n".join(parts)


def _common(given: Circumstances) -> str:
    return (
        f"Every training: {given.n_latents:,} neurons, k {given.k}, {given.n_steps:,} steps of "
        f"{given.batch_size:,} tokens, from {given.n_tokens:,} tokens of {given.n_texts:,} texts. Held out: "
        f"{given.n_held_out_tokens:,} tokens of the {given.n_held_out_texts:,} texts after those. Seen: the "
        f"first {given.n_seen_texts:,} texts of the training."
    )


def _best(best: Sequence[Measured]) -> str:
    header = ["", *(one.title for one in best)]
    rows = [[name, *(_number(value(one), form) for one in best)] for name, form, value in ROWS]
    return _table(header, rows)


def _all(measured: Sequence[Measured]) -> str:
    header = ["training", "version", "set", "explained variance, held out", "CE recovered", "seconds"]
    rows = [
        [
            one.title,
            one.version,
            ", ".join(f"{name} {_setting(value)}" for name, value in one.settings.items()),
            _number(one.held_out["explainedVariance"], ".4f"),
            _number(one.held_out["ceLossRecovered"], ".4f"),
            _number(one.seconds, ",.0f"),
        ]
        for one in measured
    ]
    return "All trainings, and what was set in each:\n\n" + _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
