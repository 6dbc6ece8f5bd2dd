"""Every comparison of speed and memory, one after the other, into the table of benchmarks/README.md.

``make bench`` makes the environments of the other packages and runs this. Each benchmark is a process of its
own, so that none finds another's memory or threads.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pages import Marks, machine
from benchmarks.rows import Row, read, table

BENCHMARKS = (
    "capture",
    "training",
    "looking",
    "steered",
    "index_time",
    "memory",
    "start_up",
    "latency",
    "many_clients",
    "lanes",
    "subscribers",
    "neurons",
    "page_queries",
    "explorer_budgets",
    "database",
)
"""In the order of the table."""
PAGE = Path(__file__).with_name("README.md")
MARKS = Marks("make bench")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="whose table is written anew")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="without writing the table")
    given = parser.parse_args()
    page = given.page.read_text()
    began = time.monotonic()
    rows = [row for name in given.only or BENCHMARKS for row in run(name)]
    minutes = (time.monotonic() - began) / 60
    measured = f"{machine()} Measured in {minutes:.0f} minutes.\n\n{table(rows)}"
    print(measured)
    if not given.only:
        given.page.write_text(MARKS.put_between(page, measured))


def run(name: str, options: Sequence[str] = ()) -> list[Row]:
    """Run a benchmark and return its lines; CalledProcessError where it fails."""
    print(f"\n{name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        lines = Path(directory) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(lines), *options]
        subprocess.run(command, check=True)
        return read(lines)


if __name__ == "__main__":
    main()
