"""``python -m tests.architectures``: every architecture through every step, and a table of what passes."""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from rich.console import Console

from tests.architectures.configs import architectures
from tests.architectures.runner import SECONDS, Outcome, run_all
from tests.architectures.table import show, write

MINIMUM = 169
"""Of the architectures that can be made tiny, how many pass every step."""


PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


def main() -> int:
    """Return the exit status: 0 where as many pass as should."""
    parser = argparse.ArgumentParser(prog="python -m tests.architectures", description=__doc__)
    parser.add_argument("--only", help="model types, with commas between them")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one architecture")
    parser.add_argument("--trace", action="store_true", help="print where the first failure of each was")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    chosen = options.only.split(",") if options.only else list(architectures())
    console, outcomes = Console(highlight=False, soft_wrap=True), list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="gql-server-architectures-") as directory:
        for outcome in run_all(chosen, Path(directory), options.seconds):
            show(console, outcome, options.trace)
            outcomes.append(outcome)
    made = [outcome for outcome in outcomes if outcome.made]
    n_passed = sum(outcome.passes for outcome in made)
    console.print(
        f"{n_passed} of {len(made)} pass every step; {len(outcomes) - len(made)} could not be made."
    )
    if options.write:
        write(PAGE, outcomes)
    needed = len(made) if options.only else MINIMUM
    return 0 if n_passed >= needed and (len(made) == len(outcomes) or not options.only) else 1


if __name__ == "__main__":
    sys.exit(main())
