"""``python -m tests.faults``: kill, look, print the counts."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.faults.harness import Plan, run


def main() -> int:
    """Return the exit status: 0 where everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="processes to kill under a job")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="of the random choices")
    parser.add_argument(
        "--model", default="smollm2", help="smollm2 (tiny where it is missing), tiny or a path"
    )
    parser.add_argument("--minutes", type=float, default=90, help="no more kills after so long")
    options = parser.parse_args()
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="gql-server-faults-"))
    console.print(f"Seed {options.seed}, in {directory} …", highlight=False)
    plan = Plan(options.kills, options.seed, options.model, options.minutes)
    tally = asyncio.run(run(plan, directory))
    tally.show(console, options.seed)
    if tally.failures:
        console.print(f"Left for a look: {directory}", highlight=False)
    else:
        shutil.rmtree(directory)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
