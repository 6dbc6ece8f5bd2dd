"""What an attack is, and the list of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.attack.site import Site

Run = Callable[[Site, "Scale"], Awaitable[str]]


@dataclass(frozen=True)
class Scale:
    """How much of an attack is made."""

    connections: int
    bytes: int
    times: int
    hold_seconds: float
    """How long what is held is held."""


FULL = Scale(connections=2_500, bytes=60_000_000, times=20, hold_seconds=5)
SHORT = Scale(connections=150, bytes=4_000_000, times=3, hold_seconds=1)


@dataclass(frozen=True)
class Attack:
    """An attack; ``run`` makes it, checks that it is refused, and returns how."""

    area: str
    name: str
    run: Run


ATTACKS: list[Attack] = []


def attack(area: str, name: str) -> Callable[[Run], Run]:
    """Put what follows on the list."""

    def add(run: Run) -> Run:
        ATTACKS.append(Attack(area, name, run))
        return run

    return add


def refusal_of(answer: dict[str, Any]) -> str:
    """Return what an answer says in its first error or refusal, shortened; "done" where it has none."""
    if answer.get("errors"):
        error = answer["errors"][0]
        return f"{error.get('extensions', {}).get('code')}: {error['message'][:90]}"
    (value,) = answer["data"].values()
    if isinstance(value, dict) and "message" in value:
        return f"{value['__typename']}: {value['message'][:90]}"
    return "done"
