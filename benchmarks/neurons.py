"""How long a page of neurons takes in an index of 65,536, by every order and filter.

``python -m benchmarks.neurons``: an index of made-up numbers, read by what the API's resolvers call: the page
and its 100 neurons' statistics, one page after the other. Without HTTP and GraphQL.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.numpy import save_file

from gql_server import ids
from gql_server.database import Database
from gql_server.migrate import migrate
from gql_server.server import Server
from gql_server.services import neuron_tensors, neurons
from gql_server.services.neurons import NeuronConditions, NeuronOrder, NeuronPage, NeuronQuery
from gql_server.settings import Settings
from models import Concept, LanguageModel, NeuronIndex, Sae
from models.enums import ArtifactStatus, ConceptSource, FloatType, LanguageModelSourceKind, SaeOrigin

N_NEURONS = 65_536
N_NAMED = 5_000
PAGE = 100
PAGES = 40
FILTERS = {
    "all": NeuronConditions(),
    "dead": NeuronConditions(dead=True),
    "not dead": NeuronConditions(dead=False),
    "with a concept": NeuronConditions(has_concept=True),
    "without": NeuronConditions(has_concept=False),
    "minFrequency, maxFrequency": NeuronConditions(min_frequency=1e-4, max_frequency=1e-2),
    "all four": NeuronConditions(False, False, 1e-5, 0.5),
}


async def fill(server: Server) -> tuple[Sae, Path]:
    """Insert an SAE with concepts and an index; return it and the index's tensors."""
    lm, sae, index_id = ids.new(ids.LANGUAGE_MODEL), ids.new(ids.SAE), ids.new(ids.NEURON_INDEX)
    row = Sae(
        id=sae,
        name="made up",
        status=ArtifactStatus.READY,
        origin=SaeOrigin.TRAINED,
        language_model_id=lm,
        layer="made_up",
        latent_count=N_NEURONS,
        directory=f"sae/{lm}/{sae}",
    )
    named = np.random.default_rng(1).choice(N_NEURONS, N_NAMED, replace=False)
    concepts = [
        Concept(
            id=ids.new(ids.CONCEPT), sae_id=sae, neuron_index=int(n), name="x", source=ConceptSource.MANUAL
        )
        for n in named
    ]
    async with server.database.write() as session:
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
        index = NeuronIndex(id=index_id, sae_id=sae, status=ArtifactStatus.READY, top_texts_per_neuron=10)
        session.add_all([*concepts, index])
    path = neuron_tensors.path_of(server.settings, index_id)
    path.parent.mkdir(parents=True)
    save_file(made_up_tensors(), path)
    return row, path


def made_up_tensors() -> dict[str, Any]:
    """Return what an index has, with as many bytes: a tenth of the neurons dead, many frequencies equal."""
    rng = np.random.default_rng(0)
    count = np.floor(rng.lognormal(3, 2, N_NEURONS)).astype(np.int64)
    count[rng.random(N_NEURONS) < 0.1] = 0
    fired = (count > 0).astype(np.float32)
    values = rng.lognormal(0, 1, (2, N_NEURONS)).astype(np.float32) * fired
    return {
        "firing_count": count,
        "frequency": (count / 1e6).astype(np.float32),
        "max_activation": values[0],
        "mean_activation": values[1],
        "histogram_counts": np.zeros((N_NEURONS, 32), dtype=np.int64),
        "window_activations": np.zeros((N_NEURONS, 10, 33), dtype=np.float32),
        "promoted_tokens": np.zeros((N_NEURONS, 50), dtype=np.int32),
        "promoted_effects": np.zeros((N_NEURONS, 50), dtype=np.float32),
    }


async def page_through(server: Server, sae: Sae, path: Path, query: NeuronQuery) -> list[float]:
    """Return milliseconds per page of one list."""
    times: list[float] = []
    after: str | None = None
    for _ in range(PAGES):
        began = time.perf_counter()
        asked = NeuronQuery(query.first, after, query.order, query.conditions)
        found = (await neurons.pages(server, [sae], asked))[sae.id]
        assert isinstance(found, NeuronPage)
        await asyncio.to_thread(neuron_tensors.statistics, path, found.page.items)
        times.append(1000 * (time.perf_counter() - began))
        if not found.page.has_next:
            break
        after = found.page.cursors[-1]
    return times


async def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(artifact_dir=Path(directory))
        migrate(settings.database_path)
        database = Database(settings.database_path)
        nothing = cast(Any, None)
        server = Server(settings, database, nothing, nothing, nothing, nothing)
        sae, path = await fill(server)
        every: list[float] = []
        await page_through(server, sae, path, NeuronQuery(PAGE, None, NeuronOrder.INDEX, FILTERS["dead"]))
        for order in NeuronOrder:
            for name, conditions in FILTERS.items():
                times = await page_through(server, sae, path, NeuronQuery(PAGE, None, order, conditions))
                every += times
                report(f"{order.value}, {name}", times)
        report("everything", every)
        await database.close()


def report(name: str, times: list[float]) -> None:
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{name}: median {statistics.median(times):.1f} ms, p95 {p95:.1f} ms, {len(times)} pages")


if __name__ == "__main__":
    asyncio.run(main())
