"""Pages: keyset cursors that hold while entries are added, and limits."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import chain
from typing import Any

import pytest

from gql_server import ids
from gql_server.services import cursors
from gql_server.services.app_context import AppContext
from models import Concept, NeuronIndex, Sae
from models.enums import ArtifactStatus, ConceptSource
from tests.api.asking import ask, counted_statements, first_error
from tests.support.artifact_files import add_neuron_index
from tests.support.serving import add_language_model, add_run, add_sae

SAES = """query ($first: Int! = 20, $after: String) {
  saes(first: $first, after: $after) {
    totalCount nodes { id name } edges { cursor }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""
NEURONS = """query (
  $id: ID!, $first: Int! = 20, $after: String, $orderBy: NeuronOrder! = INDEX, $filter: NeuronFilter
) {
  sae(id: $id) {
    neurons(first: $first, after: $after, orderBy: $orderBy, filter: $filter) {
      totalCount nodes { index } pageInfo { hasNextPage endCursor }
    }
  }
}"""
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def add_saes(server: AppContext, count: int, **columns: Any) -> list[Sae]:
    """Insert SAEs, the last one the newest."""
    language_model = await add_language_model(server)
    run = await add_run(server, language_model)
    times = [NOON + timedelta(minutes=number) for number in range(count)]
    return [
        await add_sae(server, run, **({"name": f"sae {number}", "created_at": time} | columns))
        for number, time in enumerate(times)
    ]


async def all_pages(
    server: AppContext, query: str, path: list[str], key: str, **variables: Any
) -> list[list[Any]]:
    """Return a key of the entries of every page, following the cursors."""
    found, after = [], None
    while True:
        data: Any = await ask(server, query, after=after, **variables)
        for part in path:
            data = data[part]
        found.append([node[key] for node in data["nodes"]])
        if not data["pageInfo"]["hasNextPage"]:
            return found
        after = data["pageInfo"]["endCursor"]


async def test_pages_go_from_the_newest_to_the_oldest(server: AppContext) -> None:
    rows = await add_saes(server, 5)
    pages = await all_pages(server, SAES, ["saes"], "id", first=2)
    newest_first = [row.id for row in reversed(rows)]
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]


async def test_rows_of_the_same_instant_appear_once_each(server: AppContext) -> None:
    rows = await add_saes(server, 7, created_at=NOON)
    pages = await all_pages(server, SAES, ["saes"], "id", first=2)
    assert list(chain(*pages)) == sorted((row.id for row in rows), reverse=True)


async def test_what_is_added_meanwhile_moves_nothing_to_another_page(server: AppContext) -> None:
    rows = await add_saes(server, 4)
    before = (await ask(server, SAES, first=2))["saes"]
    run = await add_run(server, await add_language_model(server, "another"))
    await add_sae(server, run, created_at=NOON + timedelta(days=1))
    after = (await ask(server, SAES, first=2, after=before["pageInfo"]["endCursor"]))["saes"]
    assert [node["id"] for node in after["nodes"]] == [rows[1].id, rows[0].id]
    assert after["totalCount"] == 5


async def test_page_info_tells_what_lies_on_both_sides(server: AppContext) -> None:
    await add_saes(server, 3)
    first = (await ask(server, SAES, first=2))["saes"]
    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": first["edges"][0]["cursor"],
        "endCursor": first["edges"][1]["cursor"],
    }
    last = (await ask(server, SAES, first=2, after=first["pageInfo"]["endCursor"]))["saes"]
    assert (last["pageInfo"]["hasNextPage"], last["pageInfo"]["hasPreviousPage"]) == (False, True)


@pytest.mark.parametrize(("first", "more"), [(2, True), (3, False)])
async def test_a_page_of_what_belongs_to_something_tells_whether_there_is_one_more(
    server: AppContext, first: int, more: bool
) -> None:
    rows = await add_saes(server, 3)
    query = """query ($id: ID!, $first: Int!) {
      activationRun(id: $id) { saes(first: $first) { nodes { id } pageInfo { hasNextPage } } }
    }"""
    page = (await ask(server, query, id=rows[0].activation_run_id, first=first))["activationRun"]["saes"]
    assert [node["id"] for node in page["nodes"]] == [row.id for row in reversed(rows)][:first]
    assert page["pageInfo"]["hasNextPage"] is more


async def test_an_empty_list_is_an_empty_page(server: AppContext) -> None:
    page = (await ask(server, SAES))["saes"]
    assert (page["nodes"], page["totalCount"], page["pageInfo"]["endCursor"]) == ([], 0, None)


async def test_a_page_has_up_to_100_entries(server: AppContext) -> None:
    await add_saes(server, 3)
    assert len((await ask(server, SAES, first=100))["saes"]["nodes"]) == 3


@pytest.mark.parametrize("first", [0, -1, 101])
async def test_a_page_size_outside_1_to_100_is_refused(server: AppContext, first: int) -> None:
    error = await first_error(server, SAES, first=first)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert error["extensions"]["fields"][0]["path"] == ["first"]


@pytest.mark.parametrize(
    "after",
    [
        "",
        "?",
        "é",
        "bm90IGpzb24",
        cursors.encode("jobs", NOON.isoformat(), "job_01M8MGYJVRZSRD3SNBDDEW4SWD"),
        cursors.encode("saes", "yesterday", "sae_1"),
        cursors.encode("saes", "2026-01-01T12:00:00", "sae_1"),
        cursors.encode("saes", 1, 2),
        cursors.encode("saes", "0001-01-01T00:00:00+23:59", "sae_1"),
        cursors.encode("saes", "9999-12-31T23:59:59-23:59", "sae_1"),
        cursors.encode("saes", NOON.isoformat(), "\ud800"),
        cursors.encode("saes", "\ud800", "sae_1"),
    ],
)
async def test_what_is_no_cursor_of_the_list_is_refused(server: AppContext, after: str) -> None:
    error = await first_error(server, SAES, after=after)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert error["extensions"]["fields"][0]["path"] == ["after"]


async def test_a_cursor_that_was_written_with_another_offset_means_the_same_time(server: AppContext) -> None:
    added = await add_saes(server, 2)
    shifted = NOON.astimezone(timezone(timedelta(hours=5))) + timedelta(days=1)
    after = cursors.encode("saes", shifted.isoformat(), "sae_Z")
    assert len((await ask(server, SAES, after=after))["saes"]["nodes"]) == len(added)


@pytest.mark.parametrize("index", [10**30, -(10**30)])
async def test_a_cursor_beyond_all_neurons_indices_is_refused(
    server: AppContext, indexed: Sae, index: int
) -> None:
    after = cursors.encode("INDEX", 0.0, index)
    error = await first_error(server, NEURONS, id=indexed.id, after=after)
    assert error["extensions"]["code"] == "INVALID_INPUT"


async def test_the_total_is_counted_only_when_asked_for(server: AppContext) -> None:
    await add_saes(server, 2)
    with counted_statements(server) as statements:
        await ask(server, "{ saes { nodes { id } } }")
    assert len(statements) == 1
    with counted_statements(server) as statements:
        await ask(server, "{ saes { totalCount nodes { id } } }")
    assert len(statements) == 2


async def test_an_ID_of_nothing_filters_everything_out(server: AppContext) -> None:
    await add_saes(server, 2)
    assert (await ask(server, '{ saes(languageModelId: "") { totalCount } }'))["saes"]["totalCount"] == 0


async def test_search_takes_its_text_literally(server: AppContext) -> None:
    sae = (await add_saes(server, 1))[0]
    async with server.database.write() as session:
        for index, name in enumerate(["100% Sure", "1000 sure", "unsure"]):
            session.add(
                Concept(
                    id=ids.new(ids.CONCEPT),
                    sae_id=sae.id,
                    neuron_index=index,
                    name=name,
                    source=ConceptSource.MANUAL,
                )
            )
    query = 'query ($id: ID!) { sae(id: $id) { concepts(search: "0% s") { totalCount nodes { name } } } }'
    assert (await ask(server, query, id=sae.id))["sae"]["concepts"] == {
        "totalCount": 1,
        "nodes": [{"name": "100% Sure"}],
    }


# --------------------------------------------------------------------------------- neurons


@pytest.fixture
async def indexed(server: AppContext) -> Sae:
    sae = (await add_saes(server, 1, latent_count=4))[0]
    await add_neuron_index(server, sae)
    return sae


async def test_neurons_go_by_index(server: AppContext) -> None:
    sae = (await add_saes(server, 1, latent_count=5))[0]
    pages = await all_pages(server, NEURONS, ["sae", "neurons"], "index", id=sae.id, first=2)
    assert pages == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("INDEX", [0, 1, 2, 3]),
        ("FREQUENCY_DESC", [2, 0, 3, 1]),
        ("FREQUENCY_ASC", [1, 0, 3, 2]),
        ("MAX_ACTIVATION_DESC", [3, 2, 0, 1]),
        ("MEAN_ACTIVATION_DESC", [3, 2, 0, 1]),
    ],
)
@pytest.mark.parametrize("first", [1, 3])
async def test_neurons_go_by_what_the_index_says_and_ties_by_index(
    server: AppContext, indexed: Sae, order: str, expected: list[int], first: int
) -> None:
    pages = await all_pages(
        server, NEURONS, ["sae", "neurons"], "index", id=indexed.id, first=first, orderBy=order
    )
    assert list(chain(*pages)) == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"dead": True}, [1]),
        ({"dead": False}, [0, 2, 3]),
        ({"minFrequency": 0.1}, [0, 2, 3]),
        ({"maxFrequency": 0.1, "dead": False}, [0, 3]),
        ({"hasConcept": True}, [2]),
        ({"hasConcept": False}, [0, 1, 3]),
    ],
)
async def test_neurons_can_be_filtered(
    server: AppContext, indexed: Sae, filter: dict[str, Any], expected: list[int]
) -> None:
    concept = Concept(
        id=ids.new(ids.CONCEPT), sae_id=indexed.id, neuron_index=2, name="x", source=ConceptSource.MANUAL
    )
    async with server.database.write() as session:
        session.add(concept)
    page = (await ask(server, NEURONS, id=indexed.id, filter=filter))["sae"]["neurons"]
    assert [node["index"] for node in page["nodes"]] == expected
    assert page["totalCount"] == len(expected)


@pytest.mark.parametrize(
    "arguments", [{"orderBy": "FREQUENCY_DESC"}, {"filter": {"dead": True}}, {"filter": {"minFrequency": 0}}]
)
async def test_what_only_an_index_can_tell_is_refused_without_one(
    server: AppContext, arguments: dict[str, Any]
) -> None:
    sae = (await add_saes(server, 1))[0]
    error = await first_error(server, NEURONS, id=sae.id, **arguments)
    assert error["extensions"]["code"] == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (ArtifactStatus.PENDING, "wait for its INDEX_NEURONS job"),
        (ArtifactStatus.BUILDING, "wait for its INDEX_NEURONS job"),
        (ArtifactStatus.FAILED, "run indexNeurons first"),
    ],
)
async def test_the_refusal_tells_whether_an_index_is_under_way(
    server: AppContext, status: ArtifactStatus, advice: str
) -> None:
    sae = (await add_saes(server, 1))[0]
    async with server.database.write() as session:
        session.add(
            NeuronIndex(id=ids.new(ids.NEURON_INDEX), sae_id=sae.id, status=status, top_texts_per_neuron=3)
        )
    error = await first_error(server, NEURONS, id=sae.id, orderBy="FREQUENCY_DESC")
    assert advice in error["message"]


async def test_a_cursor_of_another_order_is_refused(server: AppContext, indexed: Sae) -> None:
    page = (await ask(server, NEURONS, id=indexed.id, first=1))["sae"]["neurons"]
    after = page["pageInfo"]["endCursor"]
    error = await first_error(server, NEURONS, id=indexed.id, after=after, orderBy="FREQUENCY_ASC")
    assert error["extensions"]["code"] == "INVALID_INPUT"


async def test_statistics_of_neurons_are_those_of_the_index(server: AppContext, indexed: Sae) -> None:
    query = """query ($id: ID!) { sae(id: $id) { neurons(orderBy: FREQUENCY_DESC) { nodes {
      index frequency maxActivation meanActivation dead activationHistogram { edges counts }
    } } } }"""
    nodes = (await ask(server, query, id=indexed.id))["sae"]["neurons"]["nodes"]
    most, _, infinite, dead = nodes
    assert most | {"activationHistogram": None} == {
        "index": 2,
        "frequency": 1.0,
        "maxActivation": 2.0,
        "meanActivation": 2.0,
        "dead": False,
        "activationHistogram": None,
    }
    assert most["activationHistogram"]["counts"] == [25, 25] + [0] * 30
    assert most["activationHistogram"]["edges"] == [place / 16 for place in range(33)]
    assert infinite["maxActivation"] is infinite["activationHistogram"] is None
    assert (dead["dead"], dead["meanActivation"]) == (True, None)
    assert dead["activationHistogram"] == {"edges": [0.0], "counts": []}
