"""Many things by their IDs at once, and what a text may mean."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.errors import QueueFull
from gql_server.services import app_context, search
from gql_server.services.app_context import AppContext
from models import Concept, ConceptConfig, Job, Sae, StoredDataset
from models.enums import ConceptSource, JobKind, JobStatus
from tests.api.asking import ask, counted_statements, execute, first_error
from tests.support.serving import add_language_model, add_run, add_sae, idle_job

NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
SEARCH = """query ($text: String!, $first: Int! = 20, $saeId: ID) {
  search(text: $text, first: $first, saeId: $saeId) {
    __typename
    ... on Node { id }
    ... on Neuron { index concept { name } sae { name } }
  }
}"""


async def insert(server: AppContext, *rows: Any) -> None:
    async with server.database.write() as session:
        session.add_all(rows)


def concept(sae: Sae, neuron: int, name: str) -> Concept:
    id = ids.new(ids.CONCEPT)
    return Concept(id=id, sae_id=sae.id, neuron_index=neuron, name=name, source=ConceptSource.MANUAL)


def config(sae: Sae, name: str) -> ConceptConfig:
    return ConceptConfig(id=ids.new(ids.CONCEPT_CONFIG), sae_id=sae.id, name=name, edits=[], path="x")


def dataset(name: str) -> StoredDataset:
    columns: dict[str, Any] = {"byte_size": 1, "sample_count": 1, "skipped_count": 0, "column_names": []}
    return StoredDataset(id=ids.new(ids.DATASET), name=name, **columns)


async def add(server: AppContext, name: str = "sae", **columns: Any) -> Sae:
    run = await add_run(server, await add_language_model(server, f"model of {name}"), name=f"run of {name}")
    return await add_sae(server, run, name=name, **columns)


async def found(server: AppContext, text: str, **variables: Any) -> list[str]:
    """Return the IDs of a search's hits."""
    return [hit["id"] for hit in (await ask(server, SEARCH, text=text, **variables))["search"]]


# ----------------------------------------------------------------------------------- nodes


async def test_nodes_come_in_the_order_of_their_ids_with_null_for_what_is_not_there(
    server: AppContext,
) -> None:
    sae = await add(server)
    one, a_config, a_set, job = (
        concept(sae, 3, "dogs"),
        config(sae, "more dogs"),
        dataset("reviews"),
        idle_job(),
    )
    await insert(server, one, a_config, a_set, job)
    wanted = [
        (job.id, "Job"),
        (ids.neuron_id(sae.id, 3), "Neuron"),
        (ids.neuron_id(sae.id, 32), None),
        ("x", None),
        (sae.id, "Sae"),
        (a_set.id, "StoredDataset"),
        (one.id, "Concept"),
        (ids.new(ids.SAE), None),
        (sae.activation_run_id, "ActivationRun"),
        (sae.language_model_id, "LanguageModel"),
        (a_config.id, "ConceptConfig"),
        (sae.id, "Sae"),
    ]
    nodes = (await ask(server, NODES, ids=[id for id, _ in wanted]))["nodes"]
    assert nodes == [{"__typename": kind, "id": id} if kind else None for id, kind in wanted]
    assert (await ask(server, NODES, ids=[]))["nodes"] == []


async def test_many_nodes_take_a_statement_for_each_kind(server: AppContext) -> None:
    sae = await add(server)
    rows = [
        row
        for n in range(15)
        for row in (concept(sae, n, f"{n}"), config(sae, f"{n}"), dataset(f"{n}"), idle_job())
    ]
    await insert(server, *rows)
    neurons = [ids.neuron_id(sae.id, index) for index in range(10)]
    wanted = [row.id for row in rows] + neurons + [sae.id]
    with counted_statements(server) as statements:
        nodes = (await ask(server, NODES, ids=wanted))["nodes"]
    assert [node["id"] for node in nodes] == wanted and len(statements) == 5


async def test_more_than_a_hundred_ids_are_refused_and_each_costs_its_fields(server: AppContext) -> None:
    assert len((await ask(server, NODES, ids=["x"] * 100))["nodes"]) == 100
    error = await first_error(server, NODES, ids=["x"] * 101)
    assert error["extensions"]["fields"][0]["path"] == ["ids"]
    result = await execute(server, NODES, ids=["x"] * 7)
    assert result.extensions and result.extensions["cost"]["estimated"] == 7 * 3


# ---------------------------------------------------------------------------------- search


async def test_names_of_everything_are_found_the_best_first(server: AppContext) -> None:
    sae = await add(server, "Dog")
    other = await add(server, "hotdogs")
    rows: dict[str, Any] = {
        "whole": dataset("dog"),
        "beginning": config(sae, "dog breeds"),
        "word": concept(sae, 3, "a dog"),
        "dashed": dataset("my-dog"),
        "part": concept(other, 1, "underdog"),
        "none": concept(sae, 5, "cats"),
    }
    await insert(server, *rows.values())
    assert await found(server, "dog") == [
        sae.id,
        rows["whole"].id,
        rows["beginning"].id,
        # The beginnings of words: "model of Dog", "run of Dog", "my-dog", "a dog".
        sae.language_model_id,
        sae.activation_run_id,
        rows["dashed"].id,
        ids.neuron_id(sae.id, 3),
        # Parts of words, in the same order.
        other.language_model_id,
        other.id,
        other.activation_run_id,
        ids.neuron_id(other.id, 1),
    ]
    assert await found(server, "dog", first=2) == [sae.id, rows["whole"].id]


async def test_a_neuron_is_found_by_its_concept_and_shown_with_its_sae(server: AppContext) -> None:
    sae = await add(server)
    await insert(server, concept(sae, 7, "Colors of dogs"))
    (hit,) = (await ask(server, SEARCH, text="  COLORS   of "))["search"]
    assert hit == {
        "__typename": "Neuron",
        "id": ids.neuron_id(sae.id, 7),
        "index": 7,
        "concept": {"name": "Colors of dogs"},
        "sae": {"name": "sae"},
    }
    assert await found(server, "dogs colors") == [hit["id"]]
    assert await found(server, "dogs cats") == []


async def test_neurons_of_the_sae_that_is_looked_at_come_first_among_equals(server: AppContext) -> None:
    one, other = await add(server, "first"), await add(server, "second")
    await insert(server, concept(one, 1, "dogs"), concept(other, 2, "dogs"), dataset("dogs"))
    mine, theirs = ids.neuron_id(one.id, 1), ids.neuron_id(other.id, 2)
    assert (await found(server, "dogs", saeId=one.id))[0] == mine
    assert (await found(server, "dogs", saeId=other.id))[0] == theirs
    assert set((await found(server, "dogs"))[1:]) == {mine, theirs}


async def test_numbers_are_neurons_of_the_sae_that_is_looked_at_or_named(server: AppContext) -> None:
    tiny, large = await add(server, "tiny"), await add(server, "large", latent_count=2000)
    for text in ("#1234", "1234", "# 1234"):
        assert await found(server, text, saeId=large.id) == [ids.neuron_id(large.id, 1234)]
        assert await found(server, text, saeId=tiny.id) == []
        assert await found(server, text) == []
    assert await found(server, "tiny #31") == [ids.neuron_id(tiny.id, 31)]
    assert await found(server, "LARGE#1234", saeId=tiny.id) == [ids.neuron_id(large.id, 1234)]
    assert await found(server, "tiny #32") == await found(server, "#999999999", saeId=tiny.id) == []
    numbered = dataset("run #12")
    await insert(server, numbered)
    assert await found(server, "run #12") == [numbered.id]


async def test_ids_are_found_whole_and_by_their_beginning(server: AppContext) -> None:
    sae = await add(server)
    one, job = concept(sae, 4, "dogs"), idle_job()
    await insert(server, one, job)
    for row in (sae, job):
        assert await found(server, row.id) == [row.id]
        assert await found(server, row.id[:-2]) == [row.id]
        assert await found(server, row.id.partition("_")[2].lower()) == [row.id]
    assert await found(server, one.id) == [ids.neuron_id(sae.id, 4)]
    assert await found(server, ids.neuron_id(sae.id, 4)) == [ids.neuron_id(sae.id, 4)]
    assert await found(server, ids.neuron_id(sae.id, 32)) == []
    assert await found(server, ids.new(ids.SAE)) == await found(server, ids.new(ids.CONCEPT)) == []
    # The beginning of a time alone is of anything, and only of something with its kind.
    beginning = sae.id.partition("_")[2][:4]
    assert await found(server, beginning) == [] and await found(server, f"sae_{beginning}") == [sae.id]


async def test_an_exact_id_comes_before_names(server: AppContext) -> None:
    sae = await add(server)
    await insert(server, dataset(f"texts of {sae.id}"), concept(sae, 1, sae.id))
    assert (await found(server, sae.id))[0] == sae.id and len(await found(server, sae.id)) == 3


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("100%", "100% wool"),
        ("a_b", "a_b"),
        ("a/b", "a/b"),
        ("\\", "back\\slash"),
        ("[x]", "[x]"),
        ("*?", "*?"),
        ("' OR 1=1 --", "it's ' OR 1=1 --"),
        ("ü", "über ü"),
        ("💡", "a 💡"),
    ],
)
async def test_signs_of_patterns_stand_for_themselves(server: AppContext, text: str, name: str) -> None:
    sae = await add(server, "plain")
    await insert(server, concept(sae, 1, name), concept(sae, 2, "100 axb wool"))
    assert await found(server, text) == [ids.neuron_id(sae.id, 1)]


@pytest.mark.parametrize(
    ("text", "path"), [("", "text"), (" \n", "text"), ("\u200b", "text"), ("x" * 201, "text")]
)
async def test_a_text_that_means_nothing_is_refused(server: AppContext, text: str, path: str) -> None:
    error = await first_error(server, SEARCH, text=text)
    assert error["extensions"]["fields"][0]["path"] == [path]


@pytest.mark.parametrize("first", [0, -1, 101])
async def test_a_number_of_hits_that_cannot_be_is_refused(server: AppContext, first: int) -> None:
    error = await first_error(server, SEARCH, text="a", first=first)
    assert error["extensions"]["fields"][0]["path"] == ["first"]


async def test_hits_take_as_many_statements_however_many_there_are(server: AppContext) -> None:
    sae = await add(server, "dogs")
    counts = []
    for start in (0, 10):
        rows: list[Any] = [concept(sae, start + number, f"dogs {start + number}") for number in range(10)]
        rows += [config(sae, f"dogs {start + number}") for number in range(10)]
        await insert(server, *rows, *(dataset(f"dogs {start + number}") for number in range(10)))
        with counted_statements(server) as statements:
            hits = (await ask(server, SEARCH, text="dogs", first=100))["search"]
        counts.append((len(hits), len(statements)))
    (few, before), (many, after) = counts
    assert few < many and before == after


async def test_a_search_costs_as_a_page_of_ordered_neurons(server: AppContext) -> None:
    result = await execute(server, '{ search(text: "a", first: 30) { ... on Node { id } } }')
    assert result.extensions and result.extensions["cost"]["estimated"] == 30 * 2 + 50


async def test_a_job_of_any_status_is_found(server: AppContext) -> None:
    job: Job = idle_job(status=JobStatus.FAILED)
    await insert(server, job)
    assert await found(server, f"job_{job.id[4:12]}") == [job.id]


TITLES = """query ($text: String!, $first: Int! = 20) {
  search(text: $text, first: $first) { ... on Job { id title } ... on Sae { id title: name } } }"""


async def test_jobs_are_found_by_words_of_their_titles_behind_all_names(server: AppContext) -> None:
    sae, other = await add(server, "Dog SAE"), await add(server, "other")
    trained = {"language_model_id": sae.language_model_id, "activation_run_id": sae.activation_run_id}
    trained |= {"sae_class": "TopKSae"}
    first, second = (
        idle_job(
            kind=JobKind.TRAIN_SAE,
            result_id=sae.id,
            request=trained,
            created_at=datetime(2026, 1, 1 + day, tzinfo=UTC),
        )
        for day in range(2)
    )
    exported = idle_job(kind=JobKind.EXPORT_SAE, result_id=other.id, request={})
    await insert(server, first, second, exported)
    hits = (await ask(server, TITLES, text="topkSAE TRAIN"))["search"]
    title = "Train TopKSae with 32 neurons on run of Dog SAE, block 1"
    assert hits == [{"id": second.id, "title": title}, {"id": first.id, "title": title}]
    assert await found(server, "train") == [second.id, first.id]
    assert await found(server, "export other") == [exported.id]
    # As they are shown now: by the name that the SAE has.
    async with server.database.write() as session:
        (await session.get_one(Sae, other.id)).name = "Éclair"
    assert await found(server, "export other") == []
    assert await found(server, "Éclair") == [other.id, exported.id]
    assert await found(server, "éclair") == [], "the case of ASCII letters alone makes no difference"
    dogs = await found(server, "dog")
    assert set(dogs[:3]) == {sae.id, sae.activation_run_id, sae.language_model_id}
    assert dogs[3:] == [second.id, first.id]
    assert await found(server, "dog", first=4) == dogs[:4]
    assert await found(server, second.id) == [second.id]


async def test_titles_of_the_newest_jobs_are_searched_in_as_many_statements_as_of_one(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_TITLES", 3)
    saes = [await add(server, f"number {place}") for place in range(5)]
    counts, jobs = [], []
    for place, sae in enumerate(saes):
        at = datetime(2026, 1, 1 + place, tzinfo=UTC)
        jobs.append(idle_job(kind=JobKind.EXPORT_SAE, result_id=sae.id, request={}, created_at=at))
        await insert(server, jobs[-1])
        with counted_statements(server) as statements:
            assert await found(server, "SAELens export") == [job.id for job in jobs[-3:][::-1]]
        counts.append(len(statements))
    assert len(set(counts)) == 1


# ------------------------------------------------------------------------------------ turns


async def test_searches_leave_connections_to_others_and_are_refused_behind_many(server: AppContext) -> None:
    sae = await add(server)
    await insert(server, concept(sae, 3, "dogs"))
    most, running, ended = (
        app_context.MAX_WAITING_SEARCHES + app_context.SEARCHES_AT_ONCE,
        [0],
        asyncio.Event(),
    )
    highest = 0
    read = server.database.read

    @asynccontextmanager
    async def counted() -> AsyncIterator[AsyncSession]:
        nonlocal highest
        async with read() as session:
            # The server's own tasks look into the database, too.
            if asyncio.current_task() not in searches:
                yield session
                return
            running[0] += 1
            highest = max(highest, running[0])
            await ended.wait()
            yield session
            running[0] -= 1

    server.database.read = counted  # type: ignore[method-assign]
    searches = [asyncio.create_task(search.find(server, "dogs", 5, None)) for _ in range(most)]
    while running[0] < app_context.SEARCHES_AT_ONCE:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(QueueFull) as refusal:
        await search.find(server, "dogs", 5, None)
    assert refusal.value.code == "BUSY"
    ended.set()
    assert await asyncio.gather(*searches) == [[ids.neuron_id(sae.id, 3)]] * most
    assert highest == app_context.SEARCHES_AT_ONCE
    assert await search.find(server, "dogs", 5, None) == [ids.neuron_id(sae.id, 3)]
