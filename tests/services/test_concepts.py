"""Concepts: by hand and from files, held against mi_crow's own ConceptDictionary."""

import gzip
import json
from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy import select

from gql_server.errors import Conflict, InvalidInput
from gql_server.services import concept_files, concept_imports, concepts
from gql_server.services.app_context import AppContext
from gql_server.services.requests import ImportConceptsRequest, SetConceptRequest
from models import ActivationRun, Concept, Sae
from tests.support.serving import add_language_model, add_run, add_sae, serving

LINE = '{"index": "1", "description": "a", "score": 1}\n'
GOOD = "neuron_idx,concept_name,score\n3,colours,0.5\n3,paint,0.9\n7,numbers,\n"


async def named(server: AppContext, sae: Sae) -> dict[int, tuple[str, float | None]]:
    async with server.database.read() as session:
        found = await session.scalars(select(Concept).where(Concept.sae_id == sae.id))
        return {c.neuron_index: (c.name, c.score) for c in found}


async def add(server: AppContext) -> Sae:
    return await add_sae(server, await add_run(server, await add_language_model(server)))


def csv(sae: Sae, content: str, mode: str = "MERGE") -> ImportConceptsRequest:
    return ImportConceptsRequest(sae.id, "csv", content, mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("format", "content", "says"),
    [
        ("csv", "neuron_idx,score\n1,0.5\n", "concept_name"),
        ("csv", "", "neuron_idx, concept_name, score"),
        ("csv", "neuron_idx,concept_name,score\n", "no concept"),
        ("csv", "neuron_idx,concept_name,score\n1,a,0.5\n2,b\n", "line 3"),
        ("csv", "neuron_idx,concept_name,score\n1,a,0.5,9\n", "line 2"),
        ("csv", "neuron_idx,concept_name,score\n1,a,high\n", "line 2: the score 'high'"),
        ("csv", 'neuron_idx,concept_name,score\n1,"a\nb",1\n', "line 2: a name is one line"),
        ("csv", "neuron_idx,concept_name,score\n1,\x1b[2Ja,1\n", "line 2: a name is one line"),
        ("json", '{"concepts": {"1": {"name": "a\u202eb", "score": 1}}}', "a name is one line"),
        ("csv", "neuron_idx,concept_name,score\n1,a,nan\n", "line 2"),
        ("csv", "neuron_idx,concept_name,score\n1,a,1_0\n", "line 2: the score '1_0'"),
        ("csv", "neuron_idx,concept_name,score\n1,a,\uff11\n", "line 2: the score '\uff11'"),
        ("csv", 'neuron_idx,concept_name,score\n1,"a,0.5\n2,"b",0.5\n', "line 2 that is not closed"),
        ("csv", "neuron_idx,concept_name,score\n1,a,inf\n", "line 2"),
        ("csv", "neuron_idx,concept_name,score\n1,a,1\n32,b,1\n", "line 3: '32'"),
        ("csv", "neuron_idx,concept_name,score\n-1,b,1\n", "line 2"),
        ("csv", "neuron_idx,concept_name,score\n1.5,b,1\n", "line 2"),
        ("csv", "neuron_idx,concept_name,score\n1, ,1\n", "line 2"),
        ("csv", 'neuron_idx,concept_name,score\n1,a,1\n2,"b,1\n3,c,1\n', "line 3 that is not closed"),
        ("csv", "neuron_idx,score,concept_name,score\n1,0.5,a,1\n", "more than one column 'score'"),
        ("csv", "x" * 140_000, "lacks neuron_idx"),
        ("csv", "neuron_idx,concept_name,score\n1,\u200b,1\n", "line 2"),
        ("json", LINE + "{\n", "In line 2: it is not JSON"),
        (
            "json",
            LINE + '{"index": "2", "score": 1}\n',
            "In line 2: it must be an object with index",
        ),
        ("json", LINE + '{"index": 2, "index": 3, "description": "b"}\n', "In line 2: it has 'index' more"),
        ("json", LINE + '\n{"index": "32", "description": "b"}\n', "In line 3: '32' is none"),
        ("json", LINE + "7\n", "In line 2: it must be an object"),
        ("json", "{", "not JSON"),
        ("json", '{"concepts": {"1": {"name": "a\\ud83d", "score": 1}}}', "half a character"),
        (
            "json",
            '{"concepts": {"1": {"name": "a", "score": 1}, "1": {"name": "b", "score": 0}}}',
            "It has '1' more than once in one object.",
        ),
        ("json", "[" * 100_000, "It is not JSON: it is nested too deeply."),
        ("json", "9" * 5000, "It is not JSON: it has a number of too many digits."),
        ("json", '{"concepts": {"1": {"name": "a", "score": 1' + "0" * 400 + "}}}", "'1'"),
        ("json", '{"n_size": "32", "concepts": {"1": {"name": "a", "score": 1}}}', "'32'"),
        ("json", "[]", "concepts"),
        ("json", '{"concepts": {}}', "no concept"),
        ("json", '{"concepts": {"1": "a"}}', "'1'"),
        ("json", '{"concepts": {"1": {"score": 1}}}', "'1'"),
        ("json", '{"concepts": {"one": {"name": "a", "score": 1}}}', "'one'"),
        ("json", '{"concepts": {"99": {"name": "a", "score": 1}}}', "'99'"),
        ("json", '{"n_size": 64, "concepts": {"1": {"name": "a", "score": 1}}}', "64"),
        ("json", '{"concepts": {"1": {"name": "a", "score": "much"}}}', "'1'"),
    ],
)
@pytest.mark.parametrize("mode", ["MERGE", "REPLACE"])
async def test_a_bad_file_names_the_row_and_wipes_nothing(
    tmp_path: Path, format: str, content: str, says: str, mode: str
) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await concept_imports.import_concepts(server, csv(sae, GOOD))
        before = await named(server, sae)
        with pytest.raises(InvalidInput) as refusal:
            await concept_imports.import_concepts(
                server,
                ImportConceptsRequest(sae.id, format, content, mode),  # type: ignore[arg-type]
            )
        after = await named(server, sae)
    assert says in refusal.value.message
    assert refusal.value.problems[0].path == ["source", format]
    assert after == before == {3: ("paint", 0.9), 7: ("numbers", None)}


@pytest.mark.parametrize(
    "content",
    [
        "neuron_idx,concept_name,score\n3,paint; ink,0.5\n",
        "\ufeffneuron_idx,concept_name,score\n3,paint; ink,0.5\n",
        'neuron_idx;concept_name;score\r\n3;"paint; ink";0,5\r\n',
        'sep=;\nscore;concept_name;neuron_idx\n0.5;"paint; ink";3\n',
        "neuron_idx\tconcept_name\tscore\r3\tpaint; ink\t0.5\r",
        f"neuron_idx,concept_name,score,why\n3,paint; ink,0.5,{'x' * 200_000}\n",
        '\ufeff {"concepts": {"3": {"name": "paint; ink", "score": 0.5}}}',
    ],
)
@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-8-sig", "utf-16"])
async def test_a_file_is_taken_as_spreadsheets_and_editors_write_it(
    tmp_path: Path, content: str, encoding: str | None
) -> None:
    kind = "json" if "{" in content else "csv"
    source: str | BytesIO = content if encoding is None else BytesIO(content.encode(encoding))
    async with serving(tmp_path) as server:
        sae = await add(server)
        request = ImportConceptsRequest(sae.id, kind if encoding is None else None, source, "MERGE")  # type: ignore[arg-type]
        await concept_imports.import_concepts(server, request)
        assert await named(server, sae) == {3: ("paint; ink", 0.5)}


@pytest.mark.parametrize("is_packed", [True, False])
async def test_neuronpedias_explanations_are_taken_the_best_of_each_neuron(
    tmp_path: Path, is_packed: bool
) -> None:
    explanations = [
        {"modelId": "m", "layer": "0-x", "index": "3", "description": "colours", "score": 0.5},
        {
            "modelId": "m",
            "layer": "0-x",
            "index": "3",
            "description": "paint",
            "score": 0.9,
        },
        {
            "modelId": "m",
            "layer": "0-x",
            "index": "7",
            "description": "“numbers”",
            "typeName": "x",
        },
    ]
    content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in explanations).encode()
    async with serving(tmp_path) as server:
        sae = await add(server)
        file = BytesIO(gzip.compress(content) if is_packed else content)
        await concept_imports.import_concepts(server, ImportConceptsRequest(sae.id, None, file, "MERGE"))
        assert await named(server, sae) == {3: ("paint", 0.9), 7: ("“numbers”", None)}


async def test_a_packed_file_is_bounded_and_has_to_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress((LINE * 1000).encode())
    half = tmp_path / "half"
    half.write_bytes(packed[: len(packed) // 2])
    whole = tmp_path / "whole"
    whole.write_bytes(packed)
    found = concept_files.take(half, None, ["source"], 32, tmp_path / "taken")
    assert "not a whole gzip file" in found[0].message
    monkeypatch.setattr(concept_files, "MAX_FILE_SIZE", 1000)
    found = concept_files.take(whole, None, ["source"], 32, tmp_path / "taken")
    assert "more than 1000 bytes when unpacked" in found[0].message


async def test_an_import_merges_by_score_and_never_overwrites_a_person(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        await concepts.set_concept(server, SetConceptRequest(sae.id, 1, "mine", 0.1, None, None))
        first = await concept_imports.import_concepts(server, csv(sae, GOOD + "1,theirs,1\n"))
        lower = await concept_imports.import_concepts(
            server, csv(sae, "neuron_idx,concept_name,score\n3,lower,0.8\n")
        )
        higher = await concept_imports.import_concepts(
            server, csv(sae, "neuron_idx,concept_name,score\n7,higher,0.0\n")
        )
        merged = await named(server, sae)
        await concept_imports.import_concepts(
            server, csv(sae, "neuron_idx,concept_name,score\n5,only,1\n", "REPLACE")
        )
        replaced = await named(server, sae)
    assert first[1:] == (2, 1)  # The row that lost to its better twin is neither.
    assert lower[1:] == (0, 1) and higher[1:] == (1, 0)
    assert merged == {1: ("mine", 0.1), 3: ("paint", 0.9), 7: ("higher", 0.0)}
    assert replaced == {1: ("mine", 0.1), 5: ("only", 1.0)}


async def test_the_dictionary_on_disk_is_what_mi_crow_reads_from_the_same_files(tmp_path: Path) -> None:
    from gql_server.compute import mi_crow_compat  # noqa: F401

    from mi_crow.mechanistic.sae.concepts.concept_dictionary import ConceptDictionary

    content = "neuron_idx,concept_name,score\n3,colours,0.5\n3,paint,0.9\n7,numbers,0.25\n"
    (tmp_path / "concepts.csv").write_text(content)
    theirs = ConceptDictionary.from_csv(tmp_path / "concepts.csv", n_size=32)
    theirs_json = theirs.save(tmp_path / "theirs")
    async with serving(tmp_path / "artifacts") as server:
        by_csv, by_json = await add(server), None
        await concept_imports.import_concepts(server, csv(by_csv, content))
        async with server.database.read() as session:
            run = await session.get_one(Sae, by_csv.id)
        by_json = await add_sae(server, await _run(server, run))
        await concept_imports.import_concepts(
            server, ImportConceptsRequest(by_json.id, None, BytesIO(theirs_json.read_bytes()), "MERGE")
        )
        for sae in (by_csv, by_json):
            ours = ConceptDictionary(n_size=32)
            ours.load(tmp_path / "artifacts" / sae.directory / "concepts")
            assert ours.concepts_map == theirs.concepts_map
            file = tmp_path / "artifacts" / sae.directory / "concepts" / "concepts.json"
            assert json.loads(file.read_text())["n_size"] == 32


async def _run(server: AppContext, sae: Sae) -> ActivationRun:
    async with server.database.read() as session:
        return await session.get_one(ActivationRun, sae.activation_run_id)


async def test_a_stale_version_is_a_conflict_and_a_fresh_one_is_taken(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        first = await concepts.set_concept(server, SetConceptRequest(sae.id, 1, "a", None, None, None))
        second = await concepts.set_concept(server, SetConceptRequest(sae.id, 1, "b", None, None, 1))
        with pytest.raises(Conflict) as conflict:
            await concepts.set_concept(server, SetConceptRequest(sae.id, 1, "c", None, None, 1))
        found = await named(server, sae)
    assert (first.version, second.version) == (1, 2) and first.id == second.id
    assert conflict.value.code == "VERSION_MISMATCH"
    assert found == {1: ("b", None)}


@pytest.mark.parametrize(
    ("change", "path"),
    [((32, "a", None), "neuronIndex"), ((-1, "a", None), "neuronIndex"), ((1, " ", None), "name")]
    + [((1, "a", score), "score") for score in (-0.1, 1.1, float("nan"), float("inf"))],
)
async def test_a_name_that_cannot_be_right_is_refused(
    tmp_path: Path, change: tuple[int, str, float | None], path: str
) -> None:
    async with serving(tmp_path) as server:
        sae = await add(server)
        with pytest.raises(InvalidInput) as refusal:
            await concepts.set_concept(server, SetConceptRequest(sae.id, *change, None, None))
    assert [problem.path for problem in refusal.value.problems] == [[path]]
