"""What the queries of the explorer's pages take and weigh, on SAEs of several sizes.

``python -m benchmarks.page_queries``: the explorer's documents that need no language model, asked over HTTP
on an index of made-up numbers, one after the other.
"""

import gzip
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graphql import OperationDefinitionNode, concat_ast, parse, print_ast, separate_operations

from benchmarks import rows
from benchmarks.neurons import prepared
from benchmarks.rows import Row, Spread
from benchmarks.served import Client, served

PAGES = Path(__file__).parents[1] / "explorer/src"
SIZES = (4_096, 16_384, 65_536)
ROUNDS = 15
SEARCH = {"search": "function object", "dead": False}


def documents() -> Mapping[str, str]:
    """Return each operation of the pages, with the fragments that it needs."""
    whole = concat_ast([parse(path.read_text()) for path in sorted(PAGES.rglob("*.graphql"))])
    assert any(isinstance(one, OperationDefinitionNode) for one in whole.definitions)
    return {name: print_ast(document) for name, document in separate_operations(whole).items()}


def questions(sae: str, n_neurons: int) -> Iterator[tuple[str, str, float | None, list[dict[str, Any]]]]:
    """Give what is asked, the operation, its goal in milliseconds, and the variables of each round."""
    places = [n_neurons * round_ // ROUNDS for round_ in range(ROUNDS)]
    one = [{"id": sae}] * ROUNDS
    yield "home", "HomePageQuery", None, [{}] * ROUNDS
    yield "an SAE", "SaePageQuery", None, one
    yield "all neurons' figures and map", "SaePageColumnsQuery", None, one
    in_order = {"id": sae, "orderBy": "FREQUENCY_DESC"}
    yield (
        "60 neurons at any place",
        "SaePageNeuronsQuery",
        50,
        [in_order | {"offset": place} for place in places],
    )
    searched = in_order | {"offset": 0, "filter": SEARCH}
    yield "60 neurons by words", "SaePageNeuronsQuery", 100, [searched] * ROUNDS
    neuron = {"saeId": sae, "orderBy": "MAX_ACTIVATION_DESC", "filter": {"dead": False}}
    yield "a neuron", "NeuronPageQuery", 100, [neuron | {"index": place} for place in places]
    named = {"saeId": sae, "offset": 0, "orderBy": "CONCEPT_NAME"}
    by_word = named | {"filter": {"hasConcept": True, "search": "number 1"}}
    yield "60 names", "ConceptsPageNamesQuery", None, [by_word] * ROUNDS
    yield "command menu", "CommandMenuQuery", 100, [{"text": "number 12", "saeId": sae}] * ROUNDS


def measure(client: Client, sae: str, n_neurons: int) -> Iterator[Row]:
    """Ask everything, once to have the document read, then in rounds."""
    all_documents = documents()
    for what, operation, goal, variables in questions(sae, n_neurons):
        document = all_documents[operation]
        client.ask(document, **variables[0])
        times, sizes = [], []
        for given in variables:
            answer = json.dumps(client.ask(document, **given), ensure_ascii=False, separators=(",", ":"))
            times.append(client.milliseconds)
            sizes.append((len(answer.encode()), len(gzip.compress(answer.encode(), 5))))
        plain, packed = (statistics.median(size[place] for size in sizes) for place in (0, 1))
        median = statistics.median(times)
        yield Row(
            what=f"{what}, {n_neurons:,} neurons",
            ours=Spread.of(times).show("ms", ".1f"),
            measured=f"{plain / 1000:,.1f} kB, {packed / 1000:,.1f} kB packed",
            goal="" if goal is None else f"≤ {goal:g} ms",
            reached=None if goal is None else median <= goal,
            precision="float32",
        )


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--neurons", type=int, nargs="+", default=SIZES)
    given = parser.parse_args()
    table: list[Row] = []
    for n_neurons in given.neurons:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            sae = prepared(Path(directory), n_neurons)
            with served(Path(directory), WARM_UP="false") as server:
                table += measure(server.client, sae, n_neurons)
    rows.hand_over(table, given)


if __name__ == "__main__":
    main()
