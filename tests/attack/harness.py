"""Makes attacks one after the other, and says what each has done."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.attack import (  # noqa: F401  (they put themselves on the list)
    connecting,
    files,
    guessing,
    killing,
    models,
    requesting,
    writing,
)
from tests.attack.attack import Attack, Scale
from tests.attack.measuring import Measures, measured
from tests.attack.site import site_in

MAX_WAIT_MS = 500
"""Beyond the bystander's wait without an attack."""
MAX_MEMORY = 1024 * 1024 * 1024
"""Of the API process, whatever is done to it."""
MAX_LEFT = 16 * 1024 * 1024
"""On the disk, when an attack has been refused."""
MAX_LOG = 4 * 1024 * 1024
QUIET_SECONDS = 3


@dataclass(frozen=True)
class Outcome:
    """What an attack came to."""

    attack: Attack
    told: str
    measures: Measures

    def problems(self, usual_ms: float) -> list[str]:
        """Return which bounds were not kept, given the bystander's worst wait without an attack."""
        measures = self.measures
        found = {
            f"a wait of {measures.worst:,.0f} ms": measures.worst > MAX_WAIT_MS + usual_ms,
            f"{measures.memory / 2**20:,.0f} MiB of memory": measures.memory > MAX_MEMORY,
            f"{measures.left / 2**20:,.1f} MiB left on the disk": measures.left > MAX_LEFT,
            f"{measures.log / 2**20:,.1f} MiB of log": measures.log > MAX_LOG,
        }
        return [problem for problem, is_one in found.items() if is_one]


async def run(
    attacks: Sequence[Attack],
    scale: Scale,
    directory: Path,
    tell: Callable[[Outcome, float], None],
    quiet_seconds: float = QUIET_SECONDS,
) -> list[Outcome]:
    """Make the attacks on one server; ``tell`` is called after each, with the wait without an attack."""
    outcomes = []
    async with site_in(directory, WARM_UP="false") as site:
        for attack in attacks:
            async with measured(site) as before:
                await asyncio.sleep(quiet_seconds)
            async with measured(site) as measures:
                told = await attack.run(site, scale)
            outcome = Outcome(attack, told, measures)
            outcomes.append(outcome)
            tell(outcome, before.worst)
            assert (await site.ask("{ server { version } }"))["data"], "the server has gone"
    return outcomes
