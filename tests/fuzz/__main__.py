"""``python -m tests.fuzz``: send generated operations, print what came back."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.fuzz.harness import Plan, run

WIDTH = 130
"""Columns of what is not printed to a terminal."""


def main() -> int:
    """Return the exit status: 0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--operations", type=int, default=6000, help="how many to send")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="of what is drawn")
    parser.add_argument("--clients", type=int, default=4, help="operations under way at once")
    parser.add_argument(
        "--only", type=int, nargs="+", default=[], help="send these of the seed's operations alone"
    )
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    directory = Path(tempfile.mkdtemp(prefix="gql-server-fuzz-"))
    console.print(f"Seed {options.seed}, in {directory} …", highlight=False)
    operations = 0 if options.only else options.operations
    plan = Plan(operations, options.seed, options.clients, only=options.only)
    with console.status("Starting …") as status:
        tally = asyncio.run(run(plan, directory, status.update))
    tally.show(console, options.seed)
    if tally.findings:
        console.print(f"Left for a look: {directory}", highlight=False)
    else:
        shutil.rmtree(directory)
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
