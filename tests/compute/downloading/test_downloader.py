"""Downloads: what they tell, when they are given up, and what is got, without a network."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest

from gql_server.artifacts.datasets import TextDataset
from gql_server.compute.downloading import downloader, hub_models
from gql_server.compute.downloading.downloader import Downloader, patiently
from gql_server.compute.downloading.silence import Silence
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.model_files.files import snapshot_in_cache, whole_snapshot_in_cache
from gql_server.protocol.events import Event, Log, Stage
from gql_server.protocol.results import Done
from gql_server.protocol.sources import HubDataset, LanguageModelSource
from gql_server.protocol.tasks import DownloadLanguageModel, DownloadTexts
from tests.compute.conftest import RecordingContext

SOURCE = LanguageModelSource("lm_a", "HUGGING_FACE", "owner/name", "v1", "FLOAT32", "/nowhere")
HUB = HubDataset("owner/texts", None, "train", "body", "v1")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloader, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(downloader, "LAST_SECONDS", 5.0)


class Canceled(RecordingContext):
    """A context whose task is canceled by the third check."""

    def on_check(self) -> None:
        if self.checks == 3:
            raise CancelRequested


def stages(events: list[Event]) -> list[int]:
    return [event.completed for event in events if isinstance(event, Stage)]


def test_what_comes_is_told_and_only_silence_is_too_long(recording_context: RecordingContext) -> None:
    n_come, was_told = [0], threading.Event()

    def get(give_up: threading.Event) -> None:
        for number in range(1, 4):
            time.sleep(0.2)  # Longer than half of the patience each, shorter than the whole.
            n_come[0] = number
        if give_up.wait(10):
            was_told.set()

    with pytest.raises(Silence):
        patiently(get, lambda: (n_come[0], 0), "getting", 0.35, recording_context)
    assert was_told.is_set()
    assert stages(recording_context.events) == [0, 1, 2, 3]


def test_what_fails_fails_with_its_own_error(recording_context: RecordingContext) -> None:
    def get(give_up: threading.Event) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        patiently(get, lambda: (0, 0), "getting", 10, recording_context)


def test_a_canceled_download_ends_while_nothing_comes() -> None:
    def get(give_up: threading.Event) -> None:
        give_up.wait(10)

    with pytest.raises(CancelRequested):
        patiently(get, lambda: (0, 0), "getting", 10, Canceled())


class Hub:
    """The Hub's client, with files that are made here."""

    def __init__(self, cache: Path, names: dict[str, bytes]) -> None:
        self.repository, self.names, self.commit = cache / "models--owner--name", names, "a" * 40
        self.asked: list[tuple[str, bool]] = []
        """Each revision, and whether PyTorch's own format would do."""
        self.fails: Exception | None = None
        self.hangs_in: str | None = None
        """The file that it has begun with."""

    def repo_info(self, repository: str, *, revision: str, timeout: float) -> Any:
        assert (repository, revision) == ("owner/name", "v1")
        if self.fails is not None:
            raise self.fails
        return SimpleNamespace(sha=self.commit)

    def snapshot_download(
        self, repository: str, *, revision: str, allow_patterns: list[str], **_: Any
    ) -> str:
        assert repository == "owner/name"
        self.asked.append((revision, "*.bin" in allow_patterns))
        directory = self.repository / "snapshots" / self.commit
        blobs = self.repository / "blobs"
        for place in (directory, blobs, self.repository / "refs"):
            place.mkdir(parents=True, exist_ok=True)
        if self.hangs_in is not None:
            with (blobs / f"{self.hangs_in}.1234.incomplete").open("wb") as file:
                file.write(b"a part")
                file.flush()
                time.sleep(60)
        for name, content in self.names.items():
            if any(Path(name).match(pattern) for pattern in allow_patterns):
                (directory / name).write_bytes(content)
                (blobs / name).write_bytes(content)
        if revision == "v1":
            (self.repository / "refs" / "v1").write_text(self.commit)
        return str(directory)


@pytest.fixture
def hub(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = Hub(tmp_path / "hub", {file.name: file.read_bytes() for file in tiny_model_dir.iterdir()})
    monkeypatch.setattr(hub_models, "snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(hub_models, "HfApi", lambda: hub)
    return hub


def get(context: Any, patience_seconds: float = 10) -> Any:
    """Return what a download gives, or its error."""
    try:
        return Downloader(lambda message: None).do(DownloadLanguageModel(SOURCE, patience_seconds), context)
    except TaskError as error:
        return error


def test_weights_are_got_in_one_format_and_a_branch_moves_last(
    hub: Hub, recording_context: RecordingContext
) -> None:
    assert get(recording_context) == Done()
    assert hub.asked == [(hub.commit, False), ("v1", False)]
    hub.commit = "b" * 40
    hub.names["pytorch_model.bin"] = hub.names.pop("model.safetensors")
    assert get(recording_context) == Done()
    assert hub.asked[2:] == [(hub.commit, False), (hub.commit, True), ("v1", True)]
    assert snapshot_in_cache(SOURCE) == hub.repository / "snapshots" / hub.commit


def test_a_branch_that_has_moved_is_as_before_where_its_files_do_not_come(
    hub: Hub, recording_context: RecordingContext
) -> None:
    get(recording_context)
    before = whole_snapshot_in_cache(SOURCE)
    assert before is not None and before.name == hub.commit
    hub.commit, hub.hangs_in = "b" * 40, "model"
    assert get(recording_context, patience_seconds=0.1) == Done()
    assert whole_snapshot_in_cache(SOURCE) == before
    assert recording_context.events[-1] == Log(
        "The language model is taken as it was got before: nothing has come for 0.1 seconds. Try again later."
    )


def test_a_hub_that_is_silent_or_away_is_told_and_leaves_nothing(
    hub: Hub, recording_context: RecordingContext
) -> None:
    hub.hangs_in = "model"
    error = get(recording_context, patience_seconds=0.1)
    assert error.code == "CONFLICT"
    sentence = "The language model owner/name could not be loaded: nothing has come for 0.1 seconds."
    assert error.reason == f"{sentence} Try again later."
    assert list((hub.repository / "blobs").iterdir()) == []
    hub.fails = ConnectionError("no Hub")
    error = get(recording_context)
    assert error.reason == "The language model owner/name could not be loaded: no Hub."


def test_a_download_that_was_broken_off_is_not_whole(hub: Hub, recording_context: RecordingContext) -> None:
    del hub.names["tokenizer.json"]
    get(recording_context)
    assert snapshot_in_cache(SOURCE) is not None
    assert whole_snapshot_in_cache(SOURCE) is None


class Rows:
    """A dataset of the Hub with some rows, and more without end."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.config = type("Config", (), {"data_files": {"train": ["hf://datasets/owner/texts@a/t.jsonl"]}})

    def as_streaming_dataset(self, split: str) -> Any:
        for number in range(self._rows):
            yield {"body": f"text {number}"}
        while True:
            time.sleep(0.001)
            yield {"body": "another"}


def texts(directory: Path, wanted: int | None, patience_seconds: float = 10) -> DownloadTexts:
    return DownloadTexts(HUB, str(directory), wanted, 100_000, patience_seconds)


def test_texts_are_got_and_counted(
    tmp_path: Path, recording_context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: Rows(1000))
    assert Downloader(lambda message: None).do(texts(tmp_path / "here", 1000), recording_context) == Done()
    assert list(TextDataset(tmp_path / "here")) == [f"text {number}" for number in range(1000)]
    assert recording_context.events[0] == Log("Getting texts from owner/texts.")


def test_texts_that_are_given_up_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: Rows(100))
    with pytest.raises(CancelRequested):
        Downloader(lambda message: None).do(texts(tmp_path / "here", None), Canceled())
    assert list(tmp_path.iterdir()) == []
