"""Lists of neurons at any place, by every order and filter, held against plain Python."""

import pickle
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gql_server import ids
from gql_server.artifacts.search_words import SEARCH_FILE, SearchWriter, words
from gql_server.services import batches, cursors, neuron_tensors
from gql_server.services.app_context import AppContext
from models import ActivationRun, Concept, NeuronIndex, Sae
from models.enums import ArtifactStatus, ConceptSource
from tests.api.asking import ask, counted_statements, first_error
from tests.support.serving import add_language_model, add_run, add_sae

N = 12
NEURONS = """query (
  $id: ID!, $first: Int! = 20, $after: String, $offset: Int,
  $orderBy: NeuronOrder! = INDEX, $filter: NeuronFilter
) {
  sae(id: $id) { neurons(first: $first, after: $after, offset: $offset, orderBy: $orderBy, filter: $filter) {
    totalCount nodes { index } pageInfo { hasNextPage hasPreviousPage endCursor } } } }"""
FREQUENCY = [0.5, 0.0, 0.25, 0.5, 0.125, 0.0, 1.0, 0.25, 0.0, 0.75, 0.5, 0.125]
MAXIMUM = [3.0, 0.0, 1.0, 9.0, 2.0, 0.0, 1.0, 4.0, 0.0, 5.0, 6.0, 7.0]
NAMES = {
    1: ("zebra Crossing", "MANUAL", None),
    4: ("Apple", "IMPORTED", "round fruit"),
    5: ("apple tart", "GENERATED", None),
    7: ("Ärger im Büro", "MANUAL", "a note on ÉTÉ"),
    9: ("100% sure", "GENERATED", "fruit_salad"),
    10: ("Apple", "MANUAL", None),
}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
UPDATED = {1: 3, 4: 1, 5: 3, 7: 5, 9: 2, 10: 4}
TOP_TEXTS = {
    0: ["an apple a day", "Keeps"],
    2: ["pie crust, apples"],
    9: ["fruit fly"],
    11: ["été NOT winter"],
}
PROMOTED = {2: [" fruit", "ery"], 3: ["apple"], 6: ["to"]}


@pytest.fixture
async def sae(server: AppContext) -> Sae:
    run = await add_run(server, await add_language_model(server))
    return await add_sae(server, run, latent_count=N)


@pytest.fixture
async def indexed(server: AppContext, sae: Sae) -> Sae:
    """Add names, and an index with words."""
    await add_names(server, sae)
    path = await add_index(server, sae)
    writer = SearchWriter(path.parent / SEARCH_FILE)
    for table, texts in (("top_texts", TOP_TEXTS), ("promoted_tokens", PROMOTED)):
        list(writer.add(table, ((neuron, set(words(" ".join(some)))) for neuron, some in texts.items())))
    writer.close()
    return sae


async def add_names(server: AppContext, sae: Sae) -> None:
    async with server.database.write() as session:
        for neuron, (name, source, note) in NAMES.items():
            session.add(
                Concept(
                    id=ids.new(ids.CONCEPT),
                    sae_id=sae.id,
                    neuron_index=neuron,
                    name=name,
                    source=ConceptSource(source),
                    note=note,
                    updated_at=NOON + timedelta(minutes=UPDATED[neuron]),
                )
            )


async def add_index(server: AppContext, sae: Sae) -> Any:
    index = NeuronIndex(
        id=ids.new(ids.NEURON_INDEX), sae_id=sae.id, status=ArtifactStatus.READY, top_texts_per_neuron=3
    )
    async with server.database.write() as session:
        session.add(index)
    path = neuron_tensors.path_of(server.settings, index.id)
    path.parent.mkdir(parents=True)
    tensors = {
        "firing_count": np.array([int(frequency * 8) for frequency in FREQUENCY]),
        "frequency": np.array(FREQUENCY, np.float32),
        "max_activation": np.array(MAXIMUM, np.float32),
        "mean_activation": np.array(MAXIMUM, np.float32) / 2,
    }
    save_file(tensors, path)
    return path


def named_first(key: Any, *, last_first: bool = False) -> list[int]:
    """Return all neurons, those with a name first, by a key of the neuron."""
    named = sorted(NAMES, key=lambda neuron: (key(neuron), neuron))
    if last_first:
        named = sorted(NAMES, key=lambda neuron: (-key(neuron), neuron))
    return named + [neuron for neuron in range(N) if neuron not in NAMES]


ORDERS = {
    "INDEX": list(range(N)),
    "FREQUENCY_DESC": sorted(range(N), key=lambda neuron: (-FREQUENCY[neuron], neuron)),
    "FREQUENCY_ASC": sorted(range(N), key=lambda neuron: (FREQUENCY[neuron], neuron)),
    "MAX_ACTIVATION_DESC": sorted(range(N), key=lambda neuron: (-MAXIMUM[neuron], neuron)),
    "MAX_ACTIVATION_ASC": sorted(range(N), key=lambda neuron: (MAXIMUM[neuron], neuron)),
    "CONCEPT_NAME": named_first(lambda neuron: NAMES[neuron][0].lower()),
    "CONCEPT_UPDATED_DESC": named_first(UPDATED.get, last_first=True),
}
FILTERS: list[tuple[dict[str, Any] | None, set[int]]] = [
    (None, set(range(N))),
    ({"indices": [11, 3, 3, 99, -1]}, {3, 11}),
    ({"indices": []}, set()),
    ({"minMaxActivation": 2, "maxMaxActivation": 6}, {0, 4, 7, 9, 10}),
    ({"conceptSource": ["GENERATED", "IMPORTED"]}, {4, 5, 9}),
    ({"conceptSource": []}, set()),
    ({"search": " "}, set(range(N))),
    ({"search": "?!"}, set()),
    ({"search": "APPL"}, {0, 2, 3, 4, 5, 10}),
    ({"search": "apple", "searchIn": ["CONCEPT"]}, {4, 5, 10}),
    ({"search": "tart apple", "searchIn": ["CONCEPT"]}, {5}),
    ({"search": "pple", "searchIn": ["CONCEPT"]}, set()),
    ({"search": "fruit", "searchIn": ["NOTE"]}, {4, 9}),
    ({"search": "SALAD fruit", "searchIn": ["NOTE"]}, {9}),
    ({"search": "fruit", "searchIn": ["PROMOTED_TOKENS"]}, {2}),
    ({"search": "fruit apples", "searchIn": ["PROMOTED_TOKENS", "TOP_TEXTS"]}, {2}),
    ({"search": "fruit 100", "searchIn": ["TOP_TEXTS", "CONCEPT"]}, {9}),
    ({"search": "ärger BÜ"}, {7}),
    ({"search": "été"}, {7, 11}),
    ({"search": "not"}, {7, 11}),
    ({"search": 'apple" OR fruit*', "searchIn": ["TOP_TEXTS"]}, set()),
    ({"search": "NOT winter", "searchIn": ["TOP_TEXTS"]}, {11}),
    ({"search": "apple", "searchIn": []}, set()),
    ({"search": "a", "dead": False, "hasConcept": True, "minFrequency": 0.2}, {7, 10}),
]


@pytest.mark.parametrize("order", ORDERS)
async def test_every_filter_in_every_order_at_every_place(
    server: AppContext, indexed: Sae, order: str
) -> None:
    for filter, kept in FILTERS:
        expected = [neuron for neuron in ORDERS[order] if neuron in kept]
        page = await neurons_of(server, indexed, orderBy=order, filter=filter)
        assert (nodes(page), page["totalCount"]) == (expected, len(expected)), filter
        for offset in (1, 4, 30):
            page = await neurons_of(server, indexed, orderBy=order, filter=filter, offset=offset, first=2)
            assert nodes(page) == expected[offset : offset + 2], filter
            info = page["pageInfo"]
            assert info["hasNextPage"] == (len(expected) > offset + 2) and info["hasPreviousPage"]
            if info["endCursor"]:
                rest = await neurons_of(
                    server, indexed, orderBy=order, filter=filter, after=info["endCursor"], first=3
                )
                assert nodes(rest) == expected[offset + 2 : offset + 5], filter


@pytest.mark.parametrize("order", ORDERS)
async def test_pages_behind_cursors_give_each_neuron_once(
    server: AppContext, indexed: Sae, order: str
) -> None:
    found, after = [], None
    while True:
        page = await neurons_of(server, indexed, orderBy=order, first=1, after=after)
        found.append(nodes(page))
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert list(chain(*found)) == ORDERS[order]


@pytest.mark.parametrize("order", ORDERS)
async def test_neighbors_are_those_of_the_list(server: AppContext, indexed: Sae, order: str) -> None:
    query = """query ($id: ID!, $order: NeuronOrder!, $filter: NeuronFilter) {
      sae(id: $id) { neurons(first: 20) { nodes {
        index
        previousIndex(orderBy: $order, filter: $filter) nextIndex(orderBy: $order, filter: $filter)
      } } } }"""
    for filter, kept in FILTERS:
        with counted_statements(server) as statements:
            data = await ask(server, query, id=indexed.id, order=order, filter=filter)
        assert len(statements) <= 5
        for neuron in data["sae"]["neurons"]["nodes"]:
            place = ORDERS[order].index(neuron["index"])
            before = [one for one in ORDERS[order][:place] if one in kept]
            after = [one for one in ORDERS[order][place + 1 :] if one in kept]
            assert neuron["previousIndex"] == (before[-1] if before else None)
            assert neuron["nextIndex"] == (after[0] if after else None)


async def test_a_page_by_name_goes_on_behind_a_name_that_has_changed(
    server: AppContext, indexed: Sae
) -> None:
    page = await neurons_of(server, indexed, orderBy="CONCEPT_NAME", first=3)
    assert nodes(page) == [9, 4, 10]
    async with server.database.write() as session:
        concept = await session.get(Concept, (await concept_of(server, indexed, 10)).id)
        assert concept is not None
        concept.name = "aaa"
    rest = await neurons_of(
        server, indexed, orderBy="CONCEPT_NAME", first=2, after=page["pageInfo"]["endCursor"]
    )
    assert nodes(rest) == [5, 1]


@pytest.mark.parametrize(
    ("order", "first_page", "rest"),
    [("CONCEPT_NAME", [9, 4, 10], [5, 1]), ("CONCEPT_UPDATED_DESC", [7, 10, 1], [5, 9])],
)
async def test_cursors_go_by_the_names_that_the_page_was_ordered_by(
    server: AppContext,
    indexed: Sae,
    monkeypatch: pytest.MonkeyPatch,
    order: str,
    first_page: list[int],
    rest: list[int],
) -> None:
    run = server.readers.kept.run
    last = await concept_of(server, indexed, first_page[-1])

    async def renaming(*args: Any) -> Any:
        async with server.database.write() as session:
            concept = await session.get_one(Concept, last.id)
            concept.name, concept.updated_at = "zzz", NOON - timedelta(days=1)
        return await run(*args)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(server.readers.kept, "run", renaming)
        page = await neurons_of(server, indexed, orderBy=order, first=3)
    assert nodes(page) == first_page
    after = page["pageInfo"]["endCursor"]
    assert nodes(await neurons_of(server, indexed, orderBy=order, first=2, after=after)) == rest


async def test_a_search_of_names_gives_a_reader_numbers_and_no_texts(
    server: AppContext, indexed: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, run = list[int](), server.readers.kept.run

    async def noting(function: Any, *args: Any) -> Any:
        given.append(len(pickle.dumps((function, args))))
        return await run(function, *args)

    async with server.database.write() as session:
        for neuron in NAMES:
            concept = await session.get_one(Concept, (await concept_of(server, indexed, neuron)).id)
            concept.note = "thorough " * 1000
    monkeypatch.setattr(server.readers.kept, "run", noting)
    page = await neurons_of(server, indexed, filter={"search": "thor"})
    assert nodes(page) == sorted(NAMES)
    assert len(given) == 1 and given[0] < 5000


async def test_what_comes_before_an_offset_stays_in_the_reader(
    server: AppContext, indexed: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, run = list[Any](), server.readers.kept.run

    async def noting(*args: Any) -> Any:
        read.append(await run(*args))
        return read[-1]

    monkeypatch.setattr(server.readers.kept, "run", noting)
    page = await neurons_of(server, indexed, orderBy="FREQUENCY_DESC", offset=7, first=2)
    assert nodes(page) == ORDERS["FREQUENCY_DESC"][7:9]
    assert [len(selected.indices) for selected in read] == [3]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"offset": -1}, ["offset"]),
        ({"offset": 0, "after": cursors.encode("INDEX", 0.0, 1)}, ["offset"]),
        ({"filter": {"search": "a" * 201}}, ["filter", "search"]),
        ({"filter": {"search": "a b c d e f g h i"}}, ["filter", "search"]),
        ({"filter": {"indices": [0] * 1001}}, ["filter", "indices"]),
        (
            {"orderBy": "CONCEPT_UPDATED_DESC", "after": cursors.encode("CONCEPT_UPDATED_DESC", "noon", 1)},
            ["after"],
        ),
        ({"orderBy": "CONCEPT_NAME", "after": cursors.encode("CONCEPT_NAME", 1.0, 1)}, ["after"]),
    ],
)
async def test_what_cannot_be_is_refused_with_its_place(
    server: AppContext, indexed: Sae, arguments: dict[str, Any], path: list[str]
) -> None:
    error = await first_error(server, NEURONS, id=indexed.id, **arguments)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert error["extensions"]["fields"][0]["path"] == path


async def test_without_an_index_names_can_be_searched_and_sorted(server: AppContext, sae: Sae) -> None:
    await add_names(server, sae)
    page = await neurons_of(server, sae, orderBy="CONCEPT_NAME", filter={"search": "apple"})
    assert nodes(page) == [4, 10, 5]
    error = await first_error(
        server, NEURONS, id=sae.id, filter={"search": "apple", "searchIn": ["CONCEPT", "TOP_TEXTS"]}
    )
    assert "indexNeurons" in error["message"]


async def test_an_index_of_an_earlier_version_has_no_words(server: AppContext, sae: Sae) -> None:
    await add_names(server, sae)
    path = await add_index(server, sae)
    assert nodes(await neurons_of(server, sae, filter={"search": "apple"})) == [4, 5, 10]
    error = await first_error(
        server, NEURONS, id=sae.id, filter={"search": "apple", "searchIn": ["PROMOTED_TOKENS"]}
    )
    assert error["extensions"]["fields"][0]["path"] == ["filter", "searchIn"]
    assert "run indexNeurons again" in error["message"]
    (path.parent / SEARCH_FILE).write_bytes(b"damaged, and longer than a header " * 100)
    error = await first_error(server, NEURONS, id=sae.id, filter={"search": "apple"})
    assert error["extensions"]["code"] == "CONFLICT"


async def test_the_statements_of_a_list_do_not_grow_with_it(server: AppContext, indexed: Sae) -> None:
    filter = {"search": "a", "conceptSource": ["MANUAL"], "hasConcept": True}
    with counted_statements(server) as statements:
        await neurons_of(server, indexed, orderBy="CONCEPT_NAME", filter=filter)
    # The SAE, its index, and one for each of: names, sources, texts, order, cursors.
    assert len(statements) == 7


@pytest.mark.parametrize("offset", [0, 7])
async def test_a_list_reads_the_names_of_all_its_neurons_at_once(
    server: AppContext, indexed: Sae, offset: int
) -> None:
    row = """query($id: ID!, $offset: Int!) { sae(id: $id) {
      neurons(first: 5, offset: $offset, orderBy: FREQUENCY_DESC) { edges { node { ...shown } } } } }
      fragment shown on Neuron { index frequency named: concept { id name source note neuron { index } } }"""
    with counted_statements(server) as statements:
        listed = (await ask(server, row, id=indexed.id, offset=offset))["sae"]["neurons"]["edges"]
    # The SAE, its index, the names.
    assert len(statements) == 3
    alone = """query($id: ID!, $index: Int!) { neuron(saeId: $id, index: $index) {
      index frequency named: concept { id name source note neuron { index } } } }"""
    for edge in listed:
        assert (
            edge["node"] == (await ask(server, alone, id=indexed.id, index=edge["node"]["index"]))["neuron"]
        )
    indices = [edge["node"]["index"] for edge in listed]
    assert indices == ORDERS["FREQUENCY_DESC"][offset : offset + 5]
    names = [(edge["node"]["named"] or {"name": None})["name"] for edge in listed]
    assert names == [NAMES[index][0] if index in NAMES else None for index in indices]
    assert None in names and any(names)


async def test_lists_of_several_saes_read_names_in_one_statement(server: AppContext, indexed: Sae) -> None:
    query = """{ saes(first: 5) { nodes { id few: neurons(first: 2) { nodes { index concept { name } } }
      all: neurons(first: 12) { nodes { index concept { name } } } } } }"""
    async with server.database.read() as session:
        run = await session.get(ActivationRun, indexed.activation_run_id)
    assert run is not None
    other = await add_sae(server, run, latent_count=3)
    async with server.database.write() as session:
        session.add(
            Concept(
                id=ids.new(ids.CONCEPT),
                sae_id=other.id,
                neuron_index=1,
                name="another's",
                source=ConceptSource.MANUAL,
            )
        )
    with counted_statements(server) as statements:
        data = await ask(server, query)
    assert len(statements) == 2
    found = {sae["id"]: sae for sae in data["saes"]["nodes"]}
    assert [node["concept"] for node in found[other.id]["all"]["nodes"]] == [
        None,
        {"name": "another's"},
        None,
    ]
    for field in ("few", "all"):
        for node in found[indexed.id][field]["nodes"]:
            name = NAMES[node["index"]][0] if node["index"] in NAMES else None
            assert (node["concept"] or {"name": None})["name"] == name


def nodes(page: dict[str, Any]) -> Sequence[int]:
    return [node["index"] for node in page["nodes"]]


async def neurons_of(server: AppContext, sae: Sae, **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(server, NEURONS, id=sae.id, **arguments))["sae"]["neurons"]
    return found


async def concept_of(server: AppContext, sae: Sae, neuron: int) -> Concept:
    async with server.database.read() as session:
        return (await batches.concepts(session, [(sae.id, neuron)]))[(sae.id, neuron)]
