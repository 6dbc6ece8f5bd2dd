"""How long a page of neurons takes in an index of 65,536, by every order and filter.

``python -m benchmarks.neurons``: an index of made-up numbers, asked for over HTTP, one page of 100 neurons
with their statistics and concepts after the other, as a table in a browser does. Then pages at any place,
searches of words in names and texts, and all of a neuron's page.
"""

import asyncio
import re
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks import rows
from benchmarks.rows import Row, Spread
from benchmarks.served import Client, p95, served
from gql_server import ids
from gql_server.artifacts.datasets import built_in_python_reference, write_texts
from gql_server.artifacts.search_words import SEARCH_FILE, SearchWriter, words
from gql_server.database.database import Database
from gql_server.database.migrate import migrate
from gql_server.services import artifacts, neuron_tensors
from gql_server.settings import Settings
from models import ActivationRun, Concept, LanguageModel, NeuronIndex, Sae
from models.enums import (
    ArtifactStatus,
    ConceptSource,
    DatasetKind,
    FloatType,
    LanguageModelSourceKind,
    SaeOrigin,
)

PAGE = 100
ORDERS = (
    "INDEX",
    "FREQUENCY_DESC",
    "FREQUENCY_ASC",
    "MAX_ACTIVATION_DESC",
    "MAX_ACTIVATION_ASC",
    "MEAN_ACTIVATION_DESC",
    "CONCEPT_NAME",
    "CONCEPT_UPDATED_DESC",
)
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "dead": {"dead": True},
    "not dead": {"dead": False},
    "with a concept": {"hasConcept": True},
    "without": {"hasConcept": False},
    "minFrequency, maxFrequency": {"minFrequency": 1e-4, "maxFrequency": 1e-2},
    "all four": {"dead": False, "hasConcept": False, "minFrequency": 1e-5, "maxFrequency": 0.5},
}
SEARCHES = ("e", "de", "def", "function", "function object", "zebra", "the value of a")
DOCUMENT = """query(
  $id: ID!, $first: Int!, $after: String, $offset: Int, $order: NeuronOrder! = INDEX, $filter: NeuronFilter
) {
  sae(id: $id) { neurons(first: $first, after: $after, offset: $offset, orderBy: $order, filter: $filter) {
    nodes { id index concept { name } frequency maxActivation meanActivation dead }
    pageInfo { hasNextPage endCursor } } } }"""
NEURON = """query($id: ID!, $index: Int!) { neuron(saeId: $id, index: $index) {
  id index concept { name note } frequency maxActivation meanActivation dead steeringRange { strong }
  activationHistogram { edges counts } logitHistogram { edges counts }
  topTexts(first: 10) { score tokenIndex peakIndex tokenTexts activations }
  exampleGroups { from to share texts { score peakIndex tokenTexts activations } }
  silentTexts { tokenTexts } promotedTokens(first: 20) { token effect }
  correlatedNeurons(first: 10) { correlation neuron { index concept { name } } }
  previousIndex(orderBy: MAX_ACTIVATION_DESC) nextIndex(orderBy: MAX_ACTIVATION_DESC) } }"""
GOAL_MILLISECONDS = 50
SLOWER_GOAL_MILLISECONDS = 100
"""Of a search, and of a neuron's page."""
WINDOW, MAX_LENGTH = 33, 128
WORD = re.compile(r"\w+|[^\w\s]+")


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
            id=ids.new(ids.CONCEPT),
            sae_id=sae,
            neuron_index=int(n),
            name=f"function number {n}",
            source=ConceptSource.MANUAL,
        )
        for n in named
    ]
    texts = [text for text in built_in_python_reference() if len(WORD.findall(text)) >= WINDOW]
    run = ActivationRun(
        id=ids.new(ids.ACTIVATION_RUN),
        name="made up",
        status=ArtifactStatus.READY,
        language_model_id=lm,
        dataset_kind=DatasetKind.BUILT_IN,
        dataset_description="made up",
        layers=[{"name": "made_up", "hidden_size": 1}],
        batch_size=1,
        max_length=MAX_LENGTH,
        dtype=FloatType.FLOAT32,
    )
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
        session.add_all([row, run])
        await session.flush()
        session.add_all([*concepts, index_of(sae, index_id, run.id)])
    path = neuron_tensors.path_of(settings, index_id)
    path.parent.mkdir(parents=True)
    save_file(made_up_tensors(n_neurons, len(texts)), path)
    write_words(path.parent / SEARCH_FILE, texts, n_neurons)
    write_texts(artifacts.dataset_directory(settings, run.id), texts)
    write_tokenizer(artifacts.copy_directory(settings, lm), texts)
    # A server takes an index for lost that has no file of top texts, which no list of neurons shows.
    (settings.artifact_dir / f"{index_id}.json").write_text("{}")
    return sae


def write_words(path: Path, texts: list[str], n_neurons: int) -> None:
    """Write ten stretches of texts and fifty words for each neuron, to be searched."""
    rng, together = np.random.default_rng(2), " ".join(texts).split()
    starts = rng.integers(0, len(together) - 60, (n_neurons, 10)).tolist()
    writer = SearchWriter(path)
    stretches = (
        (neuron, set(words(" ".join(word for start in mine for word in together[start : start + 24]))))
        for neuron, mine in enumerate(starts)
    )
    list(writer.add("top_texts", stretches))
    list(
        writer.add(
            "promoted_tokens",
            (
                (neuron, set(words(" ".join(together[mine[0] : mine[0] + 50]))))
                for neuron, mine in enumerate(starts)
            ),
        )
    )
    writer.close()


def write_tokenizer(directory: Path, texts: list[str]) -> None:
    """Write a tokenizer whose tokens are the texts' words."""
    all_words = sorted({word for text in texts for word in WORD.findall(text)})
    tokenizer = Tokenizer(
        models.WordLevel({word: id for id, word in enumerate(["<unk>", *all_words])}, "<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "special_token_ids.json").write_text("[]")


def index_of(sae: str, id: str, run: str) -> NeuronIndex:
    return NeuronIndex(
        id=id,
        activation_run_id=run,
        sae_id=sae,
        status=ArtifactStatus.READY,
        top_texts_per_neuron=10,
        top_texts_path=f"{id}.json",
    )


def made_up_tensors(n_neurons: int, n_texts: int) -> dict[str, Any]:
    """Return what an index has, with as many bytes: a tenth of the neurons dead, many frequencies equal."""
    rng = np.random.default_rng(0)
    count = np.floor(rng.lognormal(3, 2, n_neurons)).astype(np.int64)
    count[rng.random(n_neurons) < 0.1] = 0
    fired = (count > 0).astype(np.float32)
    values = rng.lognormal(0, 1, (2, n_neurons)).astype(np.float32) * fired
    histogram = np.zeros((n_neurons, 32), dtype=np.int64)
    histogram[:, ::5] = count[:, None] // 7 + 1
    n_examples = 7 * 5 * n_neurons
    return {
        "top_rows": rng.integers(0, n_texts, (n_neurons, 10)).astype(np.int32),
        "top_scores": np.ones((n_neurons, 10), dtype=np.float32),
        "top_token_index": np.full((n_neurons, 10), 16, dtype=np.int32),
        "window_start": np.zeros((n_neurons, 10), dtype=np.int32),
        "window_length": np.full((n_neurons, 10), 20, dtype=np.int32),
        "histogram_limit": np.full(n_neurons, 8.0),
        "example_ends": np.arange(1, n_neurons + 1) * 35,
        "example_ranges": np.tile(np.repeat(np.arange(7, dtype=np.uint8), 5), n_neurons),
        "example_draws": rng.integers(0, 2**40, n_examples),
        "example_rows": rng.integers(0, n_texts, n_examples).astype(np.int32),
        "example_scores": np.ones(n_examples, dtype=np.float32),
        "example_token_index": np.full(n_examples, 16, dtype=np.int32),
        "example_start": np.zeros(n_examples, dtype=np.int32),
        "example_length": np.full(n_examples, 20, dtype=np.int32),
        "example_activations": np.zeros((n_examples, WINDOW), dtype=np.float32),
        "drawn_rows": np.arange(64, dtype=np.int32),
        "drawn_token_index": np.zeros(64, dtype=np.int32),
        "drawn_start": np.zeros(64, dtype=np.int32),
        "drawn_length": np.full(64, 17, dtype=np.int32),
        "drawn_fired": np.zeros((n_neurons, 8), dtype=np.uint8),
        "correlated_neurons": rng.integers(0, n_neurons, (n_neurons, 50)).astype(np.int32),
        "correlations": np.full((n_neurons, 50), 0.5, dtype=np.float32),
        "effect_counts": np.full((n_neurons, 64), 700, dtype=np.int32),
        "effect_limits": np.tile(np.array([-1, 1], dtype=np.float32), (n_neurons, 1)),
        "firing_count": count,
        "frequency": (count / 1e6).astype(np.float32),
        "max_activation": values[0],
        "mean_activation": values[1],
        "histogram_counts": histogram,
        "window_activations": np.zeros((n_neurons, 10, 33), dtype=np.float32),
        "promoted_tokens": np.zeros((n_neurons, 50), dtype=np.int32),
        "promoted_effects": np.zeros((n_neurons, 50), dtype=np.float32),
        "suppressed_tokens": np.zeros((n_neurons, 50), dtype=np.int32),
        "suppressed_effects": np.zeros((n_neurons, 50), dtype=np.float32),
        "similar_neurons": rng.integers(0, n_neurons, (n_neurons, 50)).astype(np.int32),
        "similar_cosines": np.full((n_neurons, 50), 0.5, dtype=np.float32),
        "decoder_map": rng.normal(size=(n_neurons, 2)).astype(np.float32),
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


def at_any_place(client: Client, sae: str, n_neurons: int) -> list[Listed]:
    """Ask for pages at places all over every order."""
    found = []
    for order in ORDERS:
        times = []
        for offset in range(0, n_neurons, max(1, n_neurons // 20)):
            client.ask(DOCUMENT, id=sae, first=PAGE, offset=offset, order=order)
            times.append(client.milliseconds)
        found.append(Listed(f"{order}, at an offset", times))
    return found


def searches(client: Client, sae: str) -> list[Listed]:
    """Search for words in all fields, and in names alone."""
    found = []
    for search in SEARCHES:
        for fields in (None, ["CONCEPT"]):
            times = []
            for _ in range(10):
                conditions = {"search": search, "searchIn": fields}
                client.ask(DOCUMENT, id=sae, first=PAGE, order="FREQUENCY_DESC", filter=conditions)
                times.append(client.milliseconds)
            found.append(Listed(f"{search!r} in {'names' if fields else 'all fields'}", times))
    return found


def neuron_pages(client: Client, sae: str, n_neurons: int) -> list[Listed]:
    """Ask for all of some neurons, one after the other."""
    times = []
    for index in range(0, n_neurons, max(1, n_neurons // 30)):
        assert client.ask(NEURON, id=sae, index=index)["neuron"]["exampleGroups"]
        times.append(client.milliseconds)
    return [Listed("a neuron's page", times)]


def slowest_of(n_neurons: int, what: str, lists: list[Listed], goal: float) -> Row:
    """Return a row for the list with the slowest median."""
    slowest = max(lists, key=lambda one: statistics.median(one.milliseconds))
    median = statistics.median(slowest.milliseconds)
    return Row(
        what=f"{what}, {n_neurons:,} neurons, the slowest ({slowest.name})",
        ours=Spread.of(slowest.milliseconds).show("ms", ".1f"),
        measured=f"median {median:.1f} ms",
        goal=f"≤ {goal:g} ms",
        reached=median <= goal,
        precision="float32",
    )


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
            places = at_any_place(server.client, sae, given.neurons)
            found = searches(server.client, sae)
            neurons = neuron_pages(server.client, sae, given.neurons)
    for one in (*lists, *places, *found, *neurons):
        report(one)
    table = [
        *lines(given.neurons, lists),
        slowest_of(given.neurons, f"a page of {PAGE} at any place", places, GOAL_MILLISECONDS),
        slowest_of(given.neurons, "a search", found, SLOWER_GOAL_MILLISECONDS),
        slowest_of(given.neurons, "all of a neuron", neurons, SLOWER_GOAL_MILLISECONDS),
    ]
    rows.hand_over(table, given)


if __name__ == "__main__":
    main()
