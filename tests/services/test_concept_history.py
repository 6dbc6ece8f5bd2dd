"""Names with history: every change is a version, a bounded number is kept, and each can be had back."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from gql_server.errors import Conflict, NotFound
from gql_server.services import concept_history, concept_imports, concepts, saes
from gql_server.services.app_context import AppContext
from gql_server.services.requests import (
    ImportConceptsRequest,
    NamedNeuron,
    RestoreConceptRequest,
    SetConceptRequest,
    SetConceptsRequest,
)
from models import Concept, ConceptRevision, Sae
from models.enums import ConceptSource
from tests.api.asking import ask, counted_statements
from tests.support.refusals import problem_paths, refused
from tests.support.serving import add_language_model, add_run, add_sae, serving

HISTORY = """query ($id: ID!, $index: Int!) { sae(id: $id) { neuron(index: $index) {
  conceptHistory { version name score source note at } concept { version name } } } }"""
FILE = "neuron_idx,concept_name,score\n"


async def add(server: AppContext, **columns: Any) -> Sae:
    return await add_sae(server, await add_run(server, await add_language_model(server)), **columns)


async def name(server: AppContext, sae: Sae, neuron: int, text: str, **fields: Any) -> Concept:
    given = {"score": None, "note": None, "expected_version": None} | fields
    return await concepts.set_concept(server, SetConceptRequest(sae.id, neuron, text, **given))


async def take(server: AppContext, sae: Sae, content: str, mode: str = "MERGE") -> tuple[int, int]:
    request = ImportConceptsRequest(sae.id, "csv", FILE + content, mode)  # type: ignore[arg-type]
    return (await concept_imports.import_concepts(server, request))[1:]


async def generate(
    server: AppContext, sae: Sae, *rows: tuple[int, str, float | None, str | None], **fields: Any
) -> tuple[int, int]:
    given = {"source": ConceptSource.GENERATED, "mode": "MERGE"} | fields
    request = SetConceptsRequest(sae.id, concepts=[NamedNeuron(*row) for row in rows], **given)
    return (await concept_imports.set_concepts(server, request))[1:]


async def restore(
    server: AppContext, sae: Sae, neuron: int, version: int, expected: int | None = None
) -> Any:
    return await concepts.restore(server, RestoreConceptRequest(sae.id, neuron, version, expected))


async def history(server: AppContext, sae: Sae, neuron: int) -> list[tuple[int, str | None, str]]:
    shown = (await ask(server, HISTORY, id=sae.id, index=neuron))["sae"]["neuron"]["conceptHistory"]
    times = [one["at"] for one in shown]
    assert times == sorted(times, reverse=True)
    return [(one["version"], one["name"], one["source"]) for one in shown]


def dictionary(server: AppContext, sae: Sae) -> dict[str, str]:
    file = server.settings.artifact_dir / sae.directory / "concepts" / "concepts.json"
    return {neuron: one["name"] for neuron, one in json.loads(file.read_text())["concepts"].items()}


async def test_each_change_is_a_version_and_a_deletion_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        assert await history(server, sae, 1) == []
        await take(server, sae, "1,colors,0.5\n2,numbers,0.5\n")
        await take(server, sae, "1,colours,0.7\n2,less,0.1\n")
        concept = await name(server, sae, 1, "paint", note="why", score=0.25)
        await concepts.delete(server, concept.id)
        assert (await ask(server, HISTORY, id=sae.id, index=1))["sae"]["neuron"]["concept"] is None
        again = await name(server, sae, 1, "ink")
        assert again.version == 5 and again.id != concept.id
        assert await history(server, sae, 1) == [
            (5, "ink", "MANUAL"),
            (4, None, "MANUAL"),
            (3, "paint", "MANUAL"),
            (2, "colours", "IMPORTED"),
            (1, "colors", "IMPORTED"),
        ]
        assert await history(server, sae, 2) == [(1, "numbers", "IMPORTED")]
        shown = (await ask(server, HISTORY, id=sae.id, index=1))["sae"]["neuron"]["conceptHistory"][2]
        assert (shown["note"], shown["score"]) == ("why", 0.25)
        with pytest.raises(Conflict):
            await name(server, sae, 1, "late", expected_version=3)


async def test_an_earlier_name_is_had_back_with_all_that_it_had(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await generate(server, sae, (1, "colors", 0.5, "by a program"))
        await name(server, sae, 1, "paint")
        back = await restore(server, sae, 1, 1)
        found = (back.name, back.score, back.note, back.source, back.version)
        assert found == ("colors", 0.5, "by a program", ConceptSource.GENERATED, 3)
        assert dictionary(server, sae) == {"1": "colors"}
        assert (await restore(server, sae, 1, 3)).version == 3, "it has that one"
        await concepts.delete(server, back.id)
        undone = await restore(server, sae, 1, 2)
        assert (undone.name, undone.version, undone.source) == ("paint", 5, ConceptSource.MANUAL)
        assert dictionary(server, sae) == {"1": "paint"}


async def test_what_cannot_be_had_back_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        concept = await name(server, sae, 1, "a")
        await concepts.delete(server, concept.id)
        deletion = await refused(server, lambda: restore(server, sae, 1, 2))
        assert problem_paths(deletion) == [["version"]] and "deleted" in str(deletion)
        for neuron, version, path in ((1, 0, "version"), (1, 9, "version"), (2, 1, "version")):
            refusal = await refused(server, lambda n=neuron, v=version: restore(server, sae, n, v))  # type: ignore[misc]
            assert problem_paths(refusal) == [[path]]
        for neuron in (-1, 32):
            refusal = await refused(server, lambda n=neuron: restore(server, sae, n, 1))  # type: ignore[misc]
            assert problem_paths(refusal) == [["neuronIndex"]]
        await name(server, sae, 1, "b")
        moved = await refused(server, lambda: restore(server, sae, 1, 1, expected=1))
        assert isinstance(moved, Conflict) and moved.code == "VERSION_MISMATCH"
        request = RestoreConceptRequest("sae_x", 1, 1, None)
        assert isinstance(await refused(server, lambda: concepts.restore(server, request)), NotFound)


async def test_replacing_all_names_keeps_those_that_were_there_and_notes_those_that_went(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await take(server, sae, "1,a,0.9\n2,b,0.9\n3,c,0.9\n")
        await name(server, sae, 3, "mine")
        assert await take(server, sae, "1,new,\n3,theirs,1\n4,more,\n", "REPLACE") == (2, 1)
        assert await history(server, sae, 1) == [(2, "new", "IMPORTED"), (1, "a", "IMPORTED")]
        assert await history(server, sae, 2) == [(2, None, "IMPORTED"), (1, "b", "IMPORTED")]
        assert await history(server, sae, 3) == [(2, "mine", "MANUAL"), (1, "c", "IMPORTED")]
        assert await history(server, sae, 4) == [(1, "more", "IMPORTED")]
        await restore(server, sae, 2, 1)
        assert dictionary(server, sae) == {"1": "new", "2": "b", "3": "mine", "4": "more"}


@pytest.mark.parametrize("seed", range(3))
async def test_the_history_is_what_happened_whatever_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(concept_history, "MAX_REVISIONS", 4)
    chance, happened = random.Random(seed), [list[str | None]() for _ in range(3)]

    def now(neuron: int) -> str | None:
        return happened[neuron][-1] if happened[neuron] else None

    async with serving(tmp_path) as server:
        sae = await add(server)
        for step in range(40):
            neuron, text = chance.randrange(3), f"name {step}"
            match chance.choice(["set", "delete", "replace"]):
                case "set":
                    # A generated one, which the next import may take the place of, with the highest score.
                    await generate(server, sae, (neuron, text, (step + 1) / 100, None))
                    happened[neuron].append(text)
                case "delete" if now(neuron) is not None:
                    async with server.database.read() as session:
                        there = select(Concept.id).where(Concept.neuron_index == neuron)
                        id = await session.scalar(there)
                    assert id
                    await concepts.delete(server, id)
                    happened[neuron].append(None)
                case "replace":
                    await generate(server, sae, (neuron, text, (step + 1) / 100, None), mode="REPLACE")
                    for other in range(3):
                        if other != neuron and now(other) is not None:
                            happened[other].append(None)
                    happened[neuron].append(text)
        for neuron in range(3):
            shown = [(version, name) for version, name, _ in await history(server, sae, neuron)]
            assert shown == list(enumerate(happened[neuron], 1))[::-1][:4]


async def test_only_so_many_versions_are_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await name(server, sae, 2, "another's")
        for step in range(25):
            await name(server, sae, 1, f"name {step}")
        assert [one[0] for one in await history(server, sae, 1)] == list(range(25, 5, -1))
        assert await history(server, sae, 2) == [(1, "another's", "MANUAL")]
        await saes.delete(server, sae.id)
        async with server.database.read() as session:
            assert await session.scalar(select(func.count()).select_from(ConceptRevision)) == 0


async def test_what_changes_nothing_is_no_version(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        first = await name(server, sae, 1, "paint", score=0.5, note="why")
        again = await name(server, sae, 1, " paint ", score=0.5, note="why", expected_version=1)
        assert (again.id, again.version, again.updated_at) == (first.id, 1, first.updated_at)
        with pytest.raises(Conflict):
            await name(server, sae, 1, "paint", score=0.5, note="why", expected_version=2)
        for change in ({"score": 0.6, "note": "why"}, {"score": 0.6}, {"score": None}):
            await name(server, sae, 1, "paint", **change)
        assert [one[0] for one in await history(server, sae, 1)] == [4, 3, 2, 1]
        await name(server, sae, 1, "ink")
        await name(server, sae, 1, "paint")
        assert (await restore(server, sae, 1, 4)).version == 6, "it is so at that one too"


@pytest.mark.parametrize("mode", ["MERGE", "REPLACE"])
async def test_an_import_of_what_is_there_is_no_version(tmp_path: Path, mode: str) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await take(server, sae, "1,a,0.5\n2,b,\n3,c,0.5\n")
        assert await take(server, sae, "1,a,0.5\n2,b,\n3,c,0.7\n", mode) == (3, 0)
        versions = [[one[0] for one in await history(server, sae, neuron)] for neuron in (1, 2, 3)]
        assert versions == [[1], [1], [2, 1]]
        # A program that gives the same name is another source.
        await generate(server, sae, (1, "a", 0.6, None))
        assert await history(server, sae, 1) == [(2, "a", "GENERATED"), (1, "a", "IMPORTED")]


async def test_a_history_is_no_longer_than_so_many_bytes(tmp_path: Path) -> None:
    # Two bytes each in UTF-8.
    notes = [f"{step:04}" + "é" * 9_996 for step in range(6)]
    length = len("name") + 4 + 2 * 9_996
    fitting = concept_history.MAX_BYTES // length
    async with serving(tmp_path) as server:
        sae = await add(server)
        await name(server, sae, 2, "another's", note=notes[0])
        await name(server, sae, 2, "another's")
        for note in notes:
            await name(server, sae, 1, "name", note=note)
        assert [one[0] for one in await history(server, sae, 1)] == list(range(6, 6 - fitting - 1, -1))
        for note in notes:
            await generate(server, sae, (3, "name", None, note))
            await generate(server, sae, (4, "x", None, None), mode="REPLACE")
        assert [one[1] for one in await history(server, sae, 3)] == [None, *["name", None] * fitting]
        assert len(await history(server, sae, 2)) == 2
        assert (await restore(server, sae, 1, 6 - fitting)).note == notes[6 - fitting - 1]


async def test_histories_of_a_page_of_neurons_take_as_many_statements_as_of_one(tmp_path: Path) -> None:
    query = """query ($id: ID!, $first: Int!) {
      sae(id: $id) { neurons(first: $first) { nodes { conceptHistory { name } concept { name } } } } }"""
    async with serving(tmp_path) as server:
        sae = await add(server)
        for neuron in range(5):
            for step in range(2):
                await name(server, sae, neuron, f"{neuron} {step}")
        counts = []
        for first in (1, 5):
            with counted_statements(server) as statements:
                nodes = (await ask(server, query, id=sae.id, first=first))["sae"]["neurons"]["nodes"]
            counts.append(len(statements))
    assert [[one["name"] for one in node["conceptHistory"]] for node in nodes] == [
        [f"{neuron} 1", f"{neuron} 0"] for neuron in range(5)
    ]
    assert counts[0] == counts[1]


async def test_an_import_takes_statements_by_the_thousand_rows_not_by_the_row(tmp_path: Path) -> None:
    rows = "".join(f"{neuron},name {neuron},0.5\n" for neuron in range(3000))
    better = rows.replace("0.5", "0.7")
    async with serving(tmp_path) as server:
        sae = await add(server, latent_count=4096)
        counts = []
        for content, mode in ((rows, "MERGE"), (better, "MERGE"), (rows, "REPLACE"), ("0,a,\n", "REPLACE")):
            statements: list[str] = []

            def note(_c: Any, _u: Any, statement: str, *_: Any, into: list[str] = statements) -> None:
                into.append(statement)

            engine = server.database._writers.sync_engine
            event.listen(engine, "before_cursor_execute", note)
            await take(server, sae, content, mode)
            event.remove(engine, "before_cursor_execute", note)
            counts.append(len(statements))
        async with server.database.read() as session:
            kept = await session.scalar(select(func.count()).select_from(ConceptRevision))
    assert max(counts) < 30, counts
    # Three versions of each are no more; of all but one the deletion is the newest.
    assert kept == 3 * 3000 + 2999


# --------------------------------------------------------------------------------- programs


async def test_programs_name_many_at_once_and_never_overwrite_a_person(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await name(server, sae, 1, "mine")
        assert await generate(
            server, sae, (9, "b", None, None), (1, "c", 1.0, None), (3, " d ", 0.5, "n")
        ) == (
            2,
            1,
        )
        assert await generate(server, sae, (3, "lower", 0.4, "n"), (9, "scored", None, None)) == (2, 0)
        assert dictionary(server, sae) == {"1": "mine", "3": "lower", "9": "scored"}
        async with server.database.read() as session:
            (row,) = await session.scalars(select(Concept).where(Concept.neuron_index == 3))
        assert (row.source, row.note, row.score) == (ConceptSource.GENERATED, "n", 0.4)
        assert await generate(server, sae, (5, "only", None, None), mode="REPLACE") == (1, 0)
        assert dictionary(server, sae) == {"1": "mine", "5": "only"}


BAD = [
    ([(32, "a", None, None)], ["concepts", "0", "neuronIndex"]),
    ([(-1, "a", None, None)], ["concepts", "0", "neuronIndex"]),
    ([(1, "a", None, None), (2, " ", None, None)], ["concepts", "1", "name"]),
    ([(1, "a\x1b", None, None)], ["concepts", "0", "name"]),
    ([(1, "a" * 501, None, None)], ["concepts", "0", "name"]),
    ([(1, "a", 1.1, None)], ["concepts", "0", "score"]),
    ([(1, "a", float("nan"), None)], ["concepts", "0", "score"]),
    ([(1, "a", None, "n" * 10_001)], ["concepts", "0", "note"]),
    ([(1, "a", None, None), (1, "b", None, None)], ["concepts", "1", "neuronIndex"]),
    ([], ["concepts"]),
    ([(0, "a", None, None)] * 501, ["concepts"]),
]


@pytest.mark.parametrize(("rows", "path"), BAD)
@pytest.mark.parametrize("mode", ["MERGE", "REPLACE"])
async def test_one_bad_row_is_named_and_nothing_changes(
    tmp_path: Path, rows: list[tuple[int, str, float | None, str | None]], path: list[str], mode: str
) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await generate(server, sae, (1, "there", 0.5, None))
        refusal = await refused(server, lambda: generate(server, sae, *rows, mode=mode))
        assert problem_paths(refusal) == [path]
        assert await history(server, sae, 1) == [(1, "there", "GENERATED")]


async def test_a_program_is_no_person_and_scores_of_others_have_no_bounds(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        row = (1, "a", 7.5, None)
        manual = await refused(server, lambda: generate(server, sae, row, source=ConceptSource.MANUAL))
        assert problem_paths(manual) == [["source"]]
        assert await generate(server, sae, row, source=ConceptSource.IMPORTED) == (1, 0)
        infinite = (2, "a", float("inf"), None)
        refusal = await refused(
            server, lambda: generate(server, sae, infinite, source=ConceptSource.IMPORTED)
        )
        assert problem_paths(refusal) == [["concepts", "0", "score"]]
        unread = await add_sae(
            server, await add_run(server, await add_language_model(server, "b")), latent_count=None
        )
        assert isinstance(await refused(server, lambda: generate(server, unread, row)), Conflict)


async def test_concepts_are_set_and_restored_by_the_api(tmp_path: Path) -> None:
    many = """mutation ($input: SetConceptsInput!) { setConcepts(input: $input) {
      ... on ConceptsImported { importedCount skippedCount sae { concepts { nodes { name source } } } }
      ... on InvalidInput { fields { path } } } }"""
    undo = """mutation ($id: ID!, $expected: Int) {
      restoreConcept(saeId: $id, neuronIndex: 1, version: 1, expectedVersion: $expected) {
        ... on ConceptSet { concept { name version } } ... on Error { code } } }"""
    async with serving(tmp_path) as server:
        sae = await add(server)
        full = [
            {"neuronIndex": n, "name": f"n {n}", "score": 0.5, "note": "why"}
            for n in range(sae.latent_count or 0)
        ]
        made = await ask(server, many, input={"saeId": sae.id, "concepts": full})
        assert (made["setConcepts"]["importedCount"], made["setConcepts"]["skippedCount"]) == (32, 0)
        assert made["setConcepts"]["sae"]["concepts"]["nodes"][0]["source"] == "GENERATED"
        await name(server, sae, 1, "b")
        assert (await ask(server, undo, id=sae.id, expected=1))["restoreConcept"] == {
            "code": "VERSION_MISMATCH"
        }
        restored = (await ask(server, undo, id=sae.id))["restoreConcept"]
        assert restored == {"concept": {"name": "n 1", "version": 3}}
        # As many as may be, with all that they can have, are within the limits of a request.
        large = await add_sae(
            server, await add_run(server, await add_language_model(server, "b")), latent_count=500
        )
        full = [{"neuronIndex": n, "name": "n", "score": 0.5, "note": "why"} for n in range(500)]
        made = await ask(server, many, input={"saeId": large.id, "concepts": full, "mode": "REPLACE"})
        assert made["setConcepts"]["importedCount"] == 500
