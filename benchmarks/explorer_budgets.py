"""What the explorer takes in a browser, beside its budgets.

``python -m benchmarks.explorer_budgets``: headless Chromium against a real server with an index of made-up
numbers. Points of trainings come over the page's own socket, without a training. Needs Node.js, Chromium and
``make explorer``; without them it says so, and has no lines.
"""

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks import rows
from benchmarks.neurons import prepared
from benchmarks.rows import Row, Spread
from benchmarks.served import served
from gql_server import ids
from gql_server.api.transport import explorer
from gql_server.database.database import Database
from gql_server.settings import Settings
from models import Sae
from models.enums import ArtifactStatus

ROOT = Path(__file__).parents[1]
DRIVER = Path(__file__).with_suffix(".mjs")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CURVES, POINTS, ROUNDS = 5, 10_000, 5
TIMEOUT_SECONDS = 900


def missing() -> str | None:
    """Say what is not here, if anything."""
    if shutil.which("node") is None or CHROMIUM is None:
        return "Node.js and Chromium"
    if not (ROOT / "explorer/node_modules/playwright-core").is_dir() or not explorer.is_built():
        return "make explorer"
    return None


async def with_more_saes(artifacts: Path, first: str, count: int) -> list[str]:
    """Add SAEs like the first one, without an index; return the IDs of all."""
    database = Database(Settings(artifact_dir=artifacts).database_path)
    try:
        async with database.write() as session:
            like = (await session.scalars(select(Sae).where(Sae.id == first))).one()
            more = [
                Sae(
                    id=ids.new(ids.SAE),
                    name=f"made up {place}",
                    status=ArtifactStatus.READY,
                    origin=like.origin,
                    language_model_id=like.language_model_id,
                    layer=like.layer,
                    latent_count=like.latent_count,
                    directory=f"{like.directory}-{place}",
                )
                for place in range(2, count + 1)
            ]
            session.add_all(more)
            return [first, *(sae.id for sae in more)]
    finally:
        await database.close()


def driven(url: str, saes: Sequence[str], n_neurons: int, points: int, rounds: int) -> dict[str, Any]:
    """Drive the browser, and return what it has found."""
    options = {
        "url": url,
        "executablePath": CHROMIUM,
        "saes": saes,
        "neurons": n_neurons,
        "points": points,
        "rounds": rounds,
    }
    command = ["node", str(DRIVER), json.dumps(options)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_SECONDS)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def within(what: str, values: Sequence[float], goal: float, unit: str, form: str = ",.0f") -> Row:
    """Hold the median of values against the most that it may be."""
    spread = Spread.of(values)
    return Row(
        what=what,
        ours=spread.show(unit, form),
        measured=f"{spread.median:{form}} {unit}",
        goal=f"≤ {goal:,g} {unit}",
        reached=spread.median <= goal,
        precision=rows.UNKNOWN,
    )


def measure(found: dict[str, Any], n_neurons: int, points: int) -> Iterator[Row]:
    """Give a line for each budget; none for a page that is not there."""
    first = found["first"]
    yield within("explorer: script and style of the first route", kilobytes(first), 140, "kB", ",.1f")
    chunks = [path.stat().st_size / 1000 for path in explorer.DIRECTORY.glob("assets/*.js.gz")]
    largest = sorted(chunks)[-2]
    yield within("explorer: largest chunk besides", [largest], 40, "kB", ",.1f")
    yield within("explorer: first contentful paint, cold", [one["paint"] for one in first], 600, "ms")
    yield within("explorer: first rows, cold", [one["rows"] for one in first], 1000, "ms")
    yield within("explorer: another page, warm", found["navigations"], 150, "ms")
    if neuron := found["neuron"]:
        yield within("explorer: queries of a neuron's page", [one["queries"] for one in neuron], 1, "queries")
        yield within("explorer: their answer, gzipped", kilobytes(neuron), 20, "kB", ",.1f")
        yield within("explorer: until their answer", [one["milliseconds"] for one in neuron], 100, "ms")
    if places := found["places"]:
        of = f"of {n_neurons:,} neurons"
        yield within(f"explorer: rows at any place {of}", places["times"], 200, "ms")
        yield within(
            f"explorer: longest frame of a scroll through rows {of}", [max(places["frames"])], 32, "ms"
        )
        yield within(f"explorer: rows {of} in the document", [places["mostRows"]], 60, "rows")
    if curves := found["curves"]:
        idle = statistics.median(curves["idle"])
        updates = [max(0.0, one - idle) for one in curves["updates"]]
        of = f"{CURVES} SAEs × 4 metrics × {points:,} points"
        yield within(f"explorer: update of the curves of {of}", updates, 16, "ms", ",.1f")
        yield within(
            "explorer: heap after these and an hour of progress", [curves["heap"] / 1e6], 100, "MB", ",.1f"
        )


def kilobytes(found: Sequence[dict[str, Any]]) -> list[float]:
    """Return the sizes of what was found."""
    return [one["bytes"] / 1000 for one in found]


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--neurons", type=int, default=65_536)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    table: list[Row] = []
    if needed := missing():
        print(f"Not measured: that needs {needed}.", file=sys.stderr)
    else:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            artifacts = Path(name)
            saes = asyncio.run(with_more_saes(artifacts, prepared(artifacts, given.neurons), CURVES))
            with served(artifacts, WARM_UP="false") as server:
                url = f"http://127.0.0.1:{server.port}"
                found = driven(url, saes, given.neurons, given.points, given.rounds)
        table = list(measure(found, given.neurons, given.points))
    rows.hand_over(table, given)


if __name__ == "__main__":
    main()
