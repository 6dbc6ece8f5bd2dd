"""Stored datasets: kept once, used by runs and evaluations that outlive them, and gone when deleted."""

import asyncio
import dataclasses
import gzip
import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from gql_server import ids
from gql_server.artifacts import datasets, disk
from gql_server.artifacts.datasets import TextDataset
from gql_server.errors import Conflict, InvalidInput, NotFound, QueueFull
from gql_server.jobs.executor import TaskRun, WorkerLost
from gql_server.processes.reader_pool import Readers
from gql_server.protocol.tasks import EvaluateSae, Task
from gql_server.services import (
    activation_runs,
    artifacts,
    dataset_previews,
    evaluations,
    names,
    startup,
    stored_datasets,
    text_taking,
)
from gql_server.services.app_context import AppContext
from gql_server.services.requests import DatasetRequest, EvaluateRequest
from gql_server.services.text_taking import Previewed
from models import ActivationRun, Removal, StoredDataset
from models.enums import ArtifactStatus, DatasetKind
from tests.support.artifact_files import write_tokenizer
from tests.support.fake_executor import FakeExecutor
from tests.support.job_logs import ended
from tests.support.refusals import problem_paths, refused
from tests.support.requests import capture_request
from tests.support.serving import add_language_model, add_run, add_sae, serving

CSV = b'label,text\n1,one\n0,two\n1,"three, four"\n'
TEXTS = ["one", "two", "three, four"]


def file(content: bytes = CSV, name: str = "reviews.csv", **options: Any) -> DatasetRequest:
    return DatasetRequest(DatasetKind.UPLOAD, file_name=name, content=BytesIO(content), **options)


def of(dataset: StoredDataset | str) -> DatasetRequest:
    id = dataset if isinstance(dataset, str) else dataset.id
    return DatasetRequest(DatasetKind.STORED, dataset_id=id)


def texts_of(server: AppContext, id: str) -> list[str]:
    return list(TextDataset(artifacts.dataset_directory(server.settings, id)))


async def rows(server: AppContext) -> list[StoredDataset]:
    async with server.database.read() as session:
        return list(await session.scalars(select(StoredDataset)))


def leftovers(directory: Path, pattern: str = "*.arrow") -> list[Path]:
    return list(directory.rglob(pattern))


async def tidy(server: AppContext) -> None:
    await startup.clean_up(server.database, server.settings, time.time() + 1)


async def test_a_file_is_kept_with_its_columns_and_found_again_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        kept = await stored_datasets.upload(server, file(), None)
    async with serving(tmp_path) as server:
        await tidy(server)
        (row,) = await rows(server)
        assert texts_of(server, kept.id) == TEXTS
        assert await stored_datasets.read(server, [kept.id, "run_x"], 2, 1, 1024) == [TEXTS[1:], None]
        directory = artifacts.dataset_directory(server.settings, kept.id)
    assert (row.id, row.name, row.status) == (kept.id, "reviews.csv", ArtifactStatus.READY)
    assert (row.sample_count, row.column_names, row.text_field) == (3, ["label", "text"], "text")
    assert row.byte_size == sum(path.stat().st_size for path in directory.iterdir())
    assert leftovers(tmp_path, ".partial*") == []


async def test_names_made_of_files_are_unique_and_given_ones_must_be(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        made = [(await stored_datasets.upload(server, file(), None)).name for _ in range(3)]
        assert made == ["reviews.csv", "reviews.csv (2)", "reviews.csv (3)"]
        conflict = await refused(server, lambda: stored_datasets.upload(server, file(), "reviews.csv"))
        assert isinstance(conflict, Conflict) and "in use" in str(conflict)
        one, another = (await rows(server))[:2]
        with pytest.raises(Conflict):
            await names.rename(server, one.id, another.name)
        await names.rename(server, one.id, "mine")
        assert sorted(row.name for row in await rows(server)) == ["mine", *made[1:]]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.csv", "passwd.csv"),
        ("a\x1b[2J\u202eb.csv", "a\ufffd[2J\ufffdb.csv"),
        ("x" * 300 + ".csv", "x" * 200),
        ("%_.csv", "%_.csv"),
    ],
)
async def test_hostile_file_names_become_harmless_names(tmp_path: Path, name: str, kept: str) -> None:
    async with serving(tmp_path) as server:
        await stored_datasets.upload(server, file(), "ab.csv")
        assert (await stored_datasets.upload(server, file(name=name), None)).name == kept
    assert not (tmp_path.parent / "etc").exists()


@pytest.mark.parametrize(
    ("request_", "name", "path"),
    [
        (file(), "", "name"),
        (file(), "x" * 201, "name"),
        (file(), "a\nb", "name"),
        (file(name=""), None, "file"),
        (file(name="x.exe"), None, "file"),
        (file(b"label\n1\n"), None, "file"),
        (file(b"text\n"), None, "file"),
        (file(b"text\n" + b"x\n" * 11), None, "file"),
        (file(b"text\n" + b"x" * 60), None, "file"),
        (file(b"{", "x.json"), None, "file"),
        (file(b"PAR1", "x.parquet"), None, "file"),
        (file(gzip.compress(b"x" * 10_000), "x.txt.gz"), None, "file"),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_leaves_nothing(
    tmp_path: Path, request_: DatasetRequest, name: str | None, path: str
) -> None:
    limits: dict[str, Any] = {"max_texts": 10, "max_text_characters": 50, "max_upload_bytes": 2_000}
    async with serving(tmp_path, **limits) as server:
        refusal = await refused(server, lambda: stored_datasets.upload(server, request_, name))
        assert problem_paths(refusal) == [[path]]
    assert leftovers(tmp_path) == []


async def test_a_file_for_which_there_is_no_room_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, max_artifact_bytes=1) as server:
        refusal = await refused(server, lambda: stored_datasets.upload(server, file(), None))
        assert isinstance(refusal, QueueFull) and "no room" in str(refusal)


async def test_unpacked_texts_for_which_there_is_no_room_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress(b"text\n" + b"x" * 90_000)
    async with serving(tmp_path) as server:
        room = disk.used_bytes(tmp_path) + 50_000
        limited = dataclasses.replace(
            server, settings=server.settings.model_copy(update={"max_artifact_bytes": room})
        )
        upload = file(packed, "x.csv.gz")
        refusal = await refused(limited, lambda: stored_datasets.upload(limited, upload, None))
        assert problem_paths(refusal) == [["file"]] and "there is room for no more" in str(refusal)


async def test_a_server_that_ends_while_it_keeps_a_file_leaves_nothing_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server:

        async def end(*_: object) -> None:
            raise asyncio.CancelledError

        with monkeypatch.context() as ending:
            ending.setattr("gql_server.services.removals.keep", end)
            ending.setattr("gql_server.services.removals.discard", end)
            with pytest.raises(asyncio.CancelledError):
                await stored_datasets.upload(server, file(), None)
        assert len(leftovers(tmp_path)) == 1
    async with serving(tmp_path) as server:
        await tidy(server)
        assert leftovers(tmp_path) == [] and await rows(server) == []
        async with server.database.read() as session:
            assert await session.scalar(select(func.count()).select_from(Removal)) == 0


async def test_a_capture_has_the_texts_for_good_and_they_take_the_room_once(tmp_path: Path) -> None:
    content = b"text\n" + b"\n".join(b"%d " % row + b"x" * 1000 for row in range(50))
    async with serving(tmp_path) as server:
        language_model = await add_language_model(server)
        dataset = await stored_datasets.upload(server, file(content), "fifty")
        before = disk.used_bytes(tmp_path / "datasets")
        request = dataclasses.replace(
            capture_request(language_model.id), dataset=of(dataset), sample_offset=3, sample_limit=4
        )
        job = (await activation_runs.capture(server, request)).job
        assert disk.used_bytes(tmp_path / "datasets") == before
        async with server.database.read() as session:
            run = await session.get_one(ActivationRun, job.result_id)
        assert (run.dataset_kind, run.dataset_description) == (DatasetKind.STORED, "fifty")
        assert (run.dataset_id, run.dataset_sample_count) == (dataset.id, 50)
        await stored_datasets.delete(server, dataset.id)
        assert not artifacts.dataset_directory(server.settings, dataset.id).exists()
        await tidy(server)
        assert [text.split()[0] for text in texts_of(server, run.id)] == [str(row) for row in range(50)]
        with pytest.raises(NotFound):
            await activation_runs.capture(server, request)


@pytest.mark.parametrize("refused_links", [(), ("texts.arrow", "skipped.json"), ("skipped.json",)])
async def test_the_texts_come_with_what_was_left_out_even_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused_links: tuple[str, ...]
) -> None:
    link = os.link

    def link_or_refuse(source: Path, target: Path) -> None:
        if target.name in refused_links:
            raise PermissionError
        link(source, target)

    async with serving(tmp_path) as server:
        language_model = await add_language_model(server)
        content = b'{"text": "a"}\n{"text": 1}\n{"text": "b"}\n'
        dataset = await stored_datasets.upload(server, file(content, "x.jsonl", skip_bad_rows=True), None)
        assert (dataset.sample_count, dataset.skipped_count) == (2, 1)
        with monkeypatch.context() as links:
            links.setattr(os, "link", link_or_refuse)
            request = dataclasses.replace(capture_request(language_model.id), dataset=of(dataset))
            job = (await activation_runs.capture(server, request)).job
        kept = TextDataset(artifacts.dataset_directory(server.settings, job.result_id))
        stored = TextDataset(artifacts.dataset_directory(server.settings, dataset.id))
        for one in (kept, stored):
            assert list(one) == ["a", "b"] and one.skipped.count == 1
        async with server.database.read() as session:
            run = await session.get_one(ActivationRun, job.result_id)
        assert (run.dataset_sample_count, run.dataset_skipped_count) == (2, 1)


async def test_an_evaluation_takes_the_texts_and_leaves_the_dataset(tmp_path: Path) -> None:
    read: list[list[str]] = []

    def read_and_end(task: Task, run: TaskRun) -> None:
        assert isinstance(task, EvaluateSae) and task.dataset_sample_count == 3
        read.append(list(TextDataset(Path(task.dataset_dir))))
        run.finish(WorkerLost("enough"))

    async with serving(tmp_path, FakeExecutor(read_and_end)) as server:
        sae = await add_sae(server, await add_run(server, await add_language_model(server)))
        dataset = await stored_datasets.upload(server, file(), None)
        request = EvaluateRequest(sae.id, of(dataset), 0, 2, None)
        await ended(server, (await evaluations.evaluate(server, request)).job.id)
        assert read == [TEXTS] and texts_of(server, dataset.id) == TEXTS


async def test_a_dataset_that_a_request_reads_is_not_deleted(tmp_path: Path) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()
    async with serving(tmp_path) as server:
        language_model = await add_language_model(server)
        dataset = await stored_datasets.upload(server, file(), None)
        take = server.readers.files.run

        async def wait_and_take(*args: Any) -> Any:
            reading.set()
            await go_on.wait()
            return await take(*args)

        server.readers.files.run = wait_and_take  # type: ignore[method-assign, assignment]
        request = dataclasses.replace(capture_request(language_model.id), dataset=of(dataset))
        capture = asyncio.create_task(activation_runs.capture(server, request))
        await reading.wait()
        refusal = await refused(server, lambda: stored_datasets.delete(server, dataset.id))
        assert isinstance(refusal, Conflict) and server.in_use.requests == 0
        go_on.set()
        await capture
        await stored_datasets.delete(server, dataset.id)
        assert await rows(server) == []


async def test_a_dataset_whose_texts_are_gone_is_failed_at_the_next_start_and_not_taken(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        dataset = await stored_datasets.upload(server, file(), None)
        artifacts.remove([artifacts.dataset_directory(server.settings, dataset.id)])
        language_model = await add_language_model(server)
        request = dataclasses.replace(capture_request(language_model.id), dataset=of(dataset))
        gone = await refused(server, lambda: activation_runs.capture(server, request))
        assert problem_paths(gone) == [["dataset", "datasetId"]]
        await tidy(server)
        assert [row.status for row in await rows(server)] == [ArtifactStatus.FAILED]
        failed = await refused(server, lambda: activation_runs.capture(server, request))
        assert isinstance(failed, Conflict) and "upload the file again" in str(failed)
        await stored_datasets.delete(server, dataset.id)


async def test_damaged_texts_are_a_conflict_and_too_many_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        long = await stored_datasets.upload(server, file(b"a\n" + b"x" * 1020, "x.txt"), None)
        short = await stored_datasets.upload(server, file(b"abc\ndefgh\n", "x.txt"), None)
        damaged = await stored_datasets.upload(server, file(), None)
        directory = artifacts.dataset_directory(server.settings, damaged.id)
        (directory / datasets.FILE_NAME).write_bytes(b"ARROW1 and no more")
        found = await stored_datasets.read(server, [long.id, short.id, damaged.id], 2, 0, 1024)
        assert found[0] == ["a", "x" * 1020] and isinstance(found[1], InvalidInput)
        assert isinstance(found[2], Conflict)
        assert await stored_datasets.read(server, [short.id], 2, 2, 0) == [[]]
        for first, offset in ((0, 0), (101, 0), (1, -1), (1, 2**31)):
            with pytest.raises(InvalidInput):
                await stored_datasets.read(server, [short.id], first, offset, 1024)


async def test_files_are_read_in_processes_of_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        server = dataclasses.replace(here, readers=Readers(here.settings))
        kept = await stored_datasets.upload(server, file(), None)
        damaged = await stored_datasets.upload(server, file(), None)
        directory = artifacts.dataset_directory(server.settings, damaged.id)
        (directory / datasets.FILE_NAME).write_bytes(b"ARROW1 and no more")
        made = await dataset_previews.look(server, of(kept), None, 1)
        assert (made.texts, made.columns, made.count) == (["one"], ["label", "text"], 3)
        found = await stored_datasets.read(server, [kept.id, damaged.id, "x", kept.id], 3, 0, 20)
        assert found[0] == TEXTS and isinstance(found[1], Conflict) and found[2] is None
        assert isinstance(found[3], InvalidInput) and found[3].problems[0].path == ["first"]
        with pytest.raises(InvalidInput, match="no known kind"):
            await stored_datasets.upload(server, file(name="x.exe"), None)


# -------------------------------------------------------------------------------- previews


def parquet(columns: dict[str, list[Any]]) -> bytes:
    buffer = BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


NESTED: dict[str, list[Any]] = {"id": [1, 2], "meta": [{"text": "a", "url": "u"}, {"text": "b", "url": "v"}]}


@pytest.mark.parametrize(
    ("request_", "columns", "texts", "count"),
    [
        (DatasetRequest(DatasetKind.INLINE, texts=["a", "b", "c"]), [], ["a", "b"], 3),
        (file(), ["label", "text"], ["one", "two"], 3),
        (file(b"text\tn\nq\t1\n", "x.tsv"), ["text", "n"], ["q"], 1),
        (file(b"a\nb\n\nc\n", "x.txt"), [], ["a", "b"], 3),
        (file(b"a\n" * 300, "x.txt"), [], ["a", "a"], None),
        (file(gzip.compress(b'\n{"text": "a", "n": {"m": 1}}\n'), "x.jsonl.gz"), ["text", "n.m"], ["a"], 1),
        (file(b'[{"text": "a"}, {"other": 1, "text": "b"}]', "x.json"), ["text"], ["a", "b"], 2),
        (file(b'["a", "b"]', "x.json"), [], ["a", "b"], 2),
        (
            file(parquet(NESTED), "x.parquet", text_field="meta.text"),
            ["id", "meta.text", "meta.url"],
            ["a", "b"],
            2,
        ),
    ],
)
async def test_a_preview_shows_columns_and_texts_and_keeps_nothing(
    tmp_path: Path, request_: DatasetRequest, columns: list[str], texts: list[str], count: int | None
) -> None:
    async with serving(tmp_path) as server:
        made = await dataset_previews.look(server, request_, None, 2)
        assert leftovers(tmp_path) == [] and await rows(server) == []
    assert made == Previewed(columns, texts, count, None, None)


async def test_stored_and_server_files_and_the_built_in_texts_are_previewed(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(CSV)
    async with serving(tmp_path / "artifacts", dataset_dirs=(tmp_path,)) as server:
        dataset = await stored_datasets.upload(server, file(), None)
        stored = await dataset_previews.look(server, of(dataset), None, 1)
        on_disk = await dataset_previews.look(server, DatasetRequest(DatasetKind.FILE, path="x.csv"), None, 1)
        built_in = await dataset_previews.look(server, DatasetRequest(DatasetKind.BUILT_IN), None, 1)
    assert stored == on_disk == Previewed(["label", "text"], ["one"], 3, None, None)
    assert built_in.count == len(datasets.built_in_python_reference())


async def test_a_preview_counts_tokens_as_the_tokenizer_does(tmp_path: Path, tiny_model_dir: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    texts = ["the cat sat", "on", "the mat with the hat"]
    async with serving(tmp_path) as server:
        language_model = await add_language_model(server)
        write_tokenizer(server, language_model.id, tiny_model_dir)
        inline = DatasetRequest(DatasetKind.INLINE, texts=texts)
        made = await dataset_previews.look(server, inline, language_model.id, 1)
    lengths = [len(tokenizer.encode(text).ids) for text in texts]
    assert made.texts == texts[:1] and made.mean_tokens == pytest.approx(sum(lengths) / 3)


async def test_a_preview_reads_no_more_than_it_needs(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_taking, "CHARACTERS_TO_COUNT", 25)
    monkeypatch.setattr(dataset_previews, "MAX_BYTES", 30)
    content = b"text\n" + b"the cat sat\n" * 2 + b"on the mat with the hat\n" + b"\xff\n"
    async with serving(tmp_path) as server:
        language_model = await add_language_model(server)
        write_tokenizer(server, language_model.id, tiny_model_dir)
        alike = DatasetRequest(DatasetKind.INLINE, texts=["the cat sat"])
        expected = (await dataset_previews.look(server, alike, language_model.id, 1)).mean_tokens
        made = await dataset_previews.look(server, file(content), language_model.id, 1)
        assert (made.texts, made.count, made.problem) == (["the cat sat"], None, None)
        assert made.mean_tokens == expected
        too_long = await dataset_previews.look(server, file(content), None, 3)
        assert too_long.texts == [] and too_long.problem and "ask for fewer" in too_long.problem


async def test_columns_are_shown_although_the_texts_cannot_be_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        made = await dataset_previews.look(server, file(text_field="body"), None, 5)
        assert (made.columns, made.texts) == (["label", "text"], [])
        assert made.problem and "no column 'body'" in made.problem
        parquet_file = file(parquet(NESTED), "x.parquet", text_field="id")
        made = await dataset_previews.look(server, parquet_file, None, 5)
        assert made.columns == ["id", "meta.text", "meta.url"] and made.problem


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (file(b"\x00", "x.txt"), ["dataset", "upload"]),
        (file(b"PAR1", "x.parquet"), ["dataset", "upload"]),
        (file(b"{", "x.json"), ["dataset", "upload"]),
        (DatasetRequest(DatasetKind.HUGGING_FACE, repository="a/b"), ["dataset", "huggingFace"]),
        (DatasetRequest(DatasetKind.FILE, path="/etc/passwd"), ["dataset", "file", "path"]),
    ],
)
async def test_what_cannot_be_looked_at_is_refused(
    tmp_path: Path, request_: DatasetRequest, path: list[str]
) -> None:
    async with serving(tmp_path) as server:
        refusal = await refused(server, lambda: dataset_previews.look(server, request_, None, 5))
        assert problem_paths(refusal) == [path]
        unknown = await refused(
            server, lambda: dataset_previews.look(server, of(ids.new("dataset")), None, 5)
        )
        assert isinstance(unknown, NotFound)
        request_ = DatasetRequest(DatasetKind.INLINE, texts=["a"])
        no_model = await refused(server, lambda: dataset_previews.look(server, request_, "lm_x", 5))
        assert isinstance(no_model, NotFound)
        with pytest.raises(InvalidInput):
            await dataset_previews.look(server, request_, None, 101)


async def test_many_columns_are_cut_off(tmp_path: Path) -> None:
    header = ",".join(["text", "x" * 201, *(f"c{number}" for number in range(200))])
    async with serving(tmp_path) as server:
        made = await dataset_previews.look(server, file(f"{header}\na\n".encode()), None, 5)
    assert len(made.columns) == 100 and made.columns[:2] == ["text", "c0"]
