"""What the explorer takes in a browser, beside its budgets.

``python -m benchmarks.explorer_budgets``: headless Chromium against a real server with an index of made-up
numbers. Points of trainings come over the page's own socket, without a training. The playground steers
SmolLM2-135M-Instruct, on a second server. Needs Node.js, Chromium and ``make explorer``; without them it says
so, and has no lines.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks import rows
from benchmarks.many_clients import BLOCK, Generated, generate, trained_sae
from benchmarks.neurons import prepared
from benchmarks.rows import Row, Spread
from benchmarks.served import Served, served
from gql_server import ids
from gql_server.api.transport import explorer
from gql_server.database.database import Database
from gql_server.settings import Settings
from gql_server.tour.steps import model_file
from models import Sae
from models.enums import ArtifactStatus

ROOT = Path(__file__).parents[1]
DRIVER = Path(__file__).with_suffix(".mjs")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CURVES, POINTS, ROUNDS = 5, 10_000, 5
EDITED, BIAS, TOKENS = 10, 2, 12
FIRST_TOKEN_MILLISECONDS = 100
"""What the page may take beyond the API, for people to take it for at once."""
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


def driven(url: str, **options: Any) -> dict[str, Any]:
    """Drive the browser, and return what it has found."""
    options |= {"url": url, "executablePath": CHROMIUM}
    command = ["node", str(DRIVER), json.dumps(options)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_SECONDS)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def played(server: Served, sae: str, rounds: int) -> list[Generated]:
    """Generate as the playground does, by the API alone; without the first one, which loads the model."""
    edits = [{"neuronIndex": EDITED, "multiplier": 1, "bias": BIAS}]
    given = {"saeId": sae, "maxNewTokens": TOKENS, "steering": {"source": {"edits": edits}}}
    given |= {"compareToBaseline": True, "topNeurons": 5}
    # Another prompt each time, whose baseline is not there yet.
    prompts = [f"Chapter {number} of the stories is about" for number in range(rounds + 1)]
    return [generate(server.port, given | {"prompts": [prompt]}) for prompt in prompts][1:]


def playground(found: Sequence[dict[str, float]], by_api: Sequence[Generated]) -> Iterator[Row]:
    """Hold when tokens are drawn against when the API has them."""
    drawn = Spread.of([min(one.values()) for one in found])
    sent = Spread.of([1000 * one.first for one in by_api])
    yield Row(
        what="explorer: first token drawn after Generate",
        ours=drawn.show("ms"),
        against="the API's own",
        theirs=sent.show("ms"),
        measured=f"{drawn.median - sent.median:+,.0f} ms",
        goal=f"≤ {FIRST_TOKEN_MILLISECONDS:+,g} ms",
        reached=drawn.median - sent.median <= FIRST_TOKEN_MILLISECONDS,
        precision=rows.UNKNOWN,
    )
    delays = Spread.of([max(0.0, one["Steered"] - one["Baseline"]) for one in found])
    token = 1000 * statistics.median(gap for one in by_api for gap in one.intervals("STEERED"))
    yield Row(
        what="explorer: first steered token drawn after the first baseline token",
        ours=delays.show("ms"),
        against="time of a token",
        theirs=f"{token:,.0f} ms",
        measured=f"{delays.median / token:.2f} ×",
        goal="≤ 1 ×",
        reached=delays.median <= token,
        precision=rows.UNKNOWN,
    )


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
    if map := found["map"]:
        of = f"of {n_neurons:,} neurons"
        yield within(f"explorer: longest frame of a drag of the map {of}", [max(map["drag"])], 32, "ms")
        yield within(f"explorer: longest frame of zooming the map {of}", [max(map["zoom"])], 32, "ms")
    if curves := found["curves"]:
        idle = statistics.median(curves["idle"])
        updates = [max(0.0, one - idle) for one in curves["updates"]]
        of = f"{CURVES} SAEs × 4 metrics × {points:,} points"
        yield within(f"explorer: update of the curves of {of}", updates, 16, "ms", ",.1f")
        yield within(
            "explorer: heap after these and an hour of progress", [curves["heap"] / 1e6], 100, "MB", ",.1f"
        )


def measured(given: argparse.Namespace) -> Iterator[Row]:
    """Run the servers and the browser."""
    model = given.model or model_file()
    with ExitStack() as running:
        artifacts = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        saes = asyncio.run(with_more_saes(artifacts, prepared(artifacts, given.neurons), CURVES))
        server = running.enter_context(served(artifacts, WARM_UP="false"))
        steered = running.enter_context(served(MODEL_DIRS=str(model.parent)))
        sae = trained_sae(steered.client, model, given.block)
        play = f"/saes/{sae}/play?edits={EDITED}:1:{BIAS}&max={TOKENS}"
        found = driven(
            f"http://127.0.0.1:{server.port}",
            saes=saes,
            neurons=given.neurons,
            points=given.points,
            rounds=given.rounds,
            play=f"http://127.0.0.1:{steered.port}{play}",
        )
        by_api = played(steered, sae, given.rounds)
    yield from measure(found, given.neurons, given.points)
    yield from playground(found["playing"], by_api)


def kilobytes(found: Sequence[dict[str, Any]]) -> list[float]:
    """Return the sizes of what was found."""
    return [one["bytes"] / 1000 for one in found]


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--neurons", type=int, default=65_536)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model", type=Path, help="what the playground steers (default: the demo's)")
    parser.add_argument("--block", type=int, default=BLOCK)
    given = parser.parse_args()
    table: list[Row] = []
    if needed := missing():
        print(f"Not measured: that needs {needed}.", file=sys.stderr)
    else:
        table = list(measured(given))
    rows.hand_over(table, given)


if __name__ == "__main__":
    main()
