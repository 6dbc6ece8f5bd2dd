"""``python -m tests.attack``: attack a server of its own on loopback, and print what that does to others."""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.attack import harness
from tests.attack.attack import ATTACKS, FULL, SHORT

WIDTH = 170
"""Columns of what is not printed to a terminal."""


def main() -> int:
    """Return the exit status: 0 where all bounds were kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", default=[], help="areas, or words of names, of the attacks to make"
    )
    parser.add_argument("--short", action="store_true", help="make less of each")
    options = parser.parse_args()
    chosen = [
        one
        for one in ATTACKS
        if not options.only or any(word in (one.area, *one.name.split()) for word in options.only)
    ]
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # It warns of connections that the server ends.
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    directory = Path(tempfile.mkdtemp(prefix="gql-server-attack-"))
    table = Table(
        "",
        "attack",
        "refused how",
        "worst wait",
        "median",
        "without it",
        "memory",
        "files",
        "left",
        "log",
        "",
    )
    bad = 0

    def tell(outcome: harness.Outcome, usual: float) -> None:
        nonlocal bad
        measures, problems = outcome.measures, outcome.problems(usual)
        bad += bool(problems)
        table.add_row(
            outcome.attack.area,
            outcome.attack.name,
            outcome.told,
            f"{measures.worst:,.0f} ms",
            f"{measures.typical:,.0f} ms",
            f"{usual:,.0f} ms",
            f"{measures.memory / 2**20:,.0f} MiB",
            str(measures.descriptors),
            f"{measures.left / 2**20:,.1f} MiB",
            f"{measures.log / 2**10:,.0f} KiB",
            "; ".join(problems) or "well",
        )
        print(f"{outcome.attack.name}: {outcome.told}: {'; '.join(problems) or 'well'}", flush=True)

    asyncio.run(harness.run(chosen, SHORT if options.short else FULL, directory, tell))
    console.print(table)
    console.print(f"{len(chosen)} attacks, {bad} beyond their bounds", highlight=False)
    if bad:
        console.print(f"Left for a look: {directory}", highlight=False)
    else:
        shutil.rmtree(directory)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
