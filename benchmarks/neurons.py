"""How long a page of neurons takes in an index of 65,536, by every order and filter.

``python -m benchmarks.neurons``: an index of made-up numbers, asked for over HTTP, one page of 100 neurons
with their statistics and concepts after the other, as a table in a browser does.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks import rows
from benchmarks.rows import Row, Spread
from benchmarks.served import Client, p95, served
from gql_server import ids
from gql_server.database.database import Database
from gql_server.database.migrate import migrate
from gql_server.services import neuron_tensors
from gql_server.settings import Settings
from models import Concept, LanguageModel, NeuronIndex, Sae
from models.enums import ArtifactStatus, ConceptSource, FloatType, LanguageModelSourceKind, SaeOrigin

PAGE = 100
ORDERS = ("INDEX", "FREQUENCY_DESC", "FREQUENCY_ASC", "MAX_ACTIVATION_DESC", "MEAN_ACTIVATION_DESC")
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "dead": {"dead": True},
    "not dead": {"dead": False},
    "with a concept": {"hasConcept": True},
    "without": {"hasConcept": False},
    "minFrequency, maxFrequency": {"minFrequency": 1e-4, "maxFrequency": 1e-2},
    "all four": {"dead": False, "hasConcept": False, "minFrequency": 1e-5, "maxFrequency": 0.5},
}
DOCUMENT = """query($id: ID!, $first: Int!, $after: String, $order: NeuronOrder!, $filter: NeuronFilter) {
  sae(id: $id) { neurons(first: $first, after: $after, orderBy: $order, filter: $filter) {
    nodes { id index concept { name } frequency maxActivation meanActivation dead }
    pageInfo { hasNextPage endCursor } } } }"""
GOAL_MILLISECONDS = 50


async def fill(database: Database, settings: Settings, n_neurons: int) -> str:
    """Insert an SAE with an index, and concepts for a thirteenth of its neurons; return its ID."""
    lm, sae, index_id = ids.new(ids.LANGUAGE_MODEL), ids.new(ids.SAE), ids.new(ids.NEURON_INDEX)
    row = Sae(
        id=sae,
        name="made up",
        status=ArtifactStatus.READY,
        origin=SaeOrigin.TRAINED,
        language_model_id=lm,
        layer="made_up",
        latent_count=n_neurons,
        directory=f"sae/{lm}/{sae}",
    )
    named = np.random.default_rng(1).choice(n_neurons, n_neurons // 13, replace=False)
    concepts = [
        Concept(
            id=ids.new(ids.CONCEPT), sae_id=sae, neuron_index=int(n), name="x", source=ConceptSource.MANUAL
        )
        for n in named
    ]
    async with database.write() as session:
        session.add(
            LanguageModel(
                id=lm,
                name="made up",
                source_kind=LanguageModelSourceKind.DIRECTORY,
                source="/nowhere",
                dtype=FloatType.FLOAT32,
            )
        )
        await session.flush()
        session.add(row)
        await session.flush()
        session.add_all([*concepts, index_of(sae, index_id)])
    path = neuron_tensors.path_of(settings, index_id)
    path.parent.mkdir(parents=True)
    save_file(made_up_tensors(n_neurons), path)
    # A server takes an index for lost that has no file of top texts, which no list of neurons shows.
    (settings.artifact_dir / f"{index_id}.json").write_text("{}")
    return sae


def index_of(sae: str, id: str) -> NeuronIndex:
    return NeuronIndex(
        id=id,
        sae_id=sae,
        status=ArtifactStatus.READY,
        top_texts_per_neuron=10,
        top_texts_path=f"{id}.json",
    )


def made_up_tensors(n_neurons: int) -> dict[str, Any]:
    """Return what an index has, with as many bytes: a tenth of the neurons dead, many frequencies equal."""
    rng = np.random.default_rng(0)
    count = np.floor(rng.lognormal(3, 2, n_neurons)).astype(np.int64)
    count[rng.random(n_neurons) < 0.1] = 0
    fired = (count > 0).astype(np.float32)
    values = rng.lognormal(0, 1, (2, n_neurons)).astype(np.float32) * fired
    return {
        "firing_count": count,
        "frequency": (count / 1e6).astype(np.float32),
        "max_activation": values[0],
        "mean_activation": values[1],
        "histogram_counts": np.zeros((n_neurons, 32), dtype=np.int64),
        "window_activations": np.zeros((n_neurons, 10, 33), dtype=np.float32),
        "promoted_tokens": np.zeros((n_neurons, 50), dtype=np.int32),
        "promoted_effects": np.zeros((n_neurons, 50), dtype=np.float32),
    }


@dataclass(frozen=True)
class Listed:
    """A list that was paged through: how long each page took, in milliseconds."""

    name: str
    milliseconds: list[float]


def page_through(client: Client, sae: str, order: str, conditions: dict[str, Any], pages: int) -> list[float]:
    """Return milliseconds per page of one list."""
    times: list[float] = []
    after: str | None = None
    for _ in range(pages):
        found = client.ask(DOCUMENT, id=sae, first=PAGE, after=after, order=order, filter=conditions)
        page = found["sae"]["neurons"]
        times.append(client.milliseconds)
        assert page["nodes"] and page["nodes"][0]["frequency"] is not None, "neurons with their statistics"
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    return times


def measure(client: Client, sae: str, pages: int) -> Iterator[Listed]:
    page_through(client, sae, "INDEX", {}, 1)  # The first one parses the document.
    for order, (name, conditions) in product(ORDERS, FILTERS.items()):
        yield Listed(f"{order}, {name}", page_through(client, sae, order, conditions, pages))


def lines(n_neurons: int, lists: list[Listed]) -> list[Row]:
    every = [time for one in lists for time in one.milliseconds]
    slowest = max(lists, key=lambda one: statistics.median(one.milliseconds))
    median = statistics.median(slowest.milliseconds)
    return [
        row(n_neurons, "every order and filter", every, "p95", p95(every)),
        row(n_neurons, f"the slowest list ({slowest.name})", slowest.milliseconds, "median", median),
    ]


def row(n_neurons: int, name: str, milliseconds: list[float], figure: str, found: float) -> Row:
    return Row(
        what=f"a page of {PAGE} of {n_neurons:,} neurons, {name}",
        ours=Spread.of(milliseconds).show("ms", ".1f"),
        measured=f"{figure} {found:.1f} ms",
        goal=f"≤ {GOAL_MILLISECONDS} ms",
        reached=found <= GOAL_MILLISECONDS,
        precision="float32",
    )


def report(one: Listed) -> None:
    median = statistics.median(one.milliseconds)
    slowest = max(one.milliseconds)
    print(
        f"{one.name}: median {median:.1f} ms, p95 {p95(one.milliseconds):.1f} ms, slowest {slowest:.1f} ms,"
        f" {len(one.milliseconds)} pages"
    )


def prepared(artifacts: Path, n_neurons: int) -> str:
    """Make an artifact directory with an SAE of so many neurons; return its ID."""

    async def prepare() -> str:
        settings = Settings(artifact_dir=artifacts)
        migrate(settings.database_path)
        database = Database(settings.database_path)
        try:
            return await fill(database, settings, n_neurons)
        finally:
            await database.close()

    return asyncio.run(prepare())


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--neurons", type=int, default=65_536)
    parser.add_argument("--pages", type=int, default=20, help="of each list, at most")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        sae = prepared(Path(directory), given.neurons)
        with served(Path(directory), WARM_UP="false") as server:
            lists = list(measure(server.client, sae, given.pages))
    for one in lists:
        report(one)
    rows.hand_over(lines(given.neurons, lists), given)


if __name__ == "__main__":
    main()
