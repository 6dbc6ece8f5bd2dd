"""A training that is interrupted and goes on ends as one that never was."""

import errno
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.training.snapshots import QUICK_BYTES, Snapshot, Snapshots, UnusableSnapshot
from gql_server.compute.training.training import train_sae
from gql_server.compute.worker.context import CancelRequested
from gql_server.protocol.events import (
    Event,
    Log,
    Progress,
    TrainingConfigChosen,
    TrainingPointMessage,
    TrainingResumed,
)
from gql_server.protocol.tasks import SNAPSHOT_FILE, TrainSae
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.support.training import (
    LAYER,
    WIDTH,
    StoredRun,
    epoch,
    training_points,
    training_store,
    training_task,
    write_run,
)

from mi_crow.store.local_store import LocalStore
from overcomplete.sae import SAE

POOL = 40 * WIDTH * 4
MEMORY = 2**20


class RestlessEngine(SAE):
    """An engine with state of every kind: random numbers, a number, a tensor, a view, an empty buffer."""

    mean: Tensor | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dropout = nn.Dropout(0.2)
        self.strength: Tensor | None = None
        self.gain = nn.Parameter(torch.ones(2))
        self.first_gain = self.gain.detach()[:1]
        self.register_buffer("mean", None)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pre-activations and latents, which depend on all calls before."""
        pre_activations, latents = super().encode(self.dropout(x))
        if self.training:
            now = latents.detach().mean(dim=0)
            self.n_calls = getattr(self, "n_calls", 0) + 1
            self.strength = now.max() if self.strength is None else 0.5 * (self.strength + now.max())
            self.mean = now if self.mean is None else 0.5 * (self.mean + now)
            grown = 0.01 * (self.n_calls + self.strength + self.mean)
            latents = latents * (self.gain.sum() + self.first_gain + grown)
        return pre_activations, latents


class RestlessSae(DummySae):
    """An SAE around it."""

    def _initialize_sae_engine(self) -> SAE:
        return RestlessEngine(self.context.n_inputs, self.context.n_latents, device=self.context.device)


class ExtendedSae(DummySae):
    """A dummy whose engine has come to have one parameter more."""

    def _initialize_sae_engine(self) -> SAE:
        engine = super()._initialize_sae_engine()
        engine.register_parameter("more", nn.Parameter(torch.zeros(1)))
        return engine


CLASSES = SaeClasses({"DummySae": DummySae, "RestlessSae": RestlessSae, "ExtendedSae": ExtendedSae})


class Killed(BaseException):
    """The end of the process, for all that the training sees of it."""


@dataclass
class EndingContext(RecordingContext):
    """A context whose training ends when it has sent a step's point, or some checks after that."""

    step: int = 0
    error: BaseException = field(default_factory=CancelRequested)
    checks_after: int = 0

    def emit(self, event: Event) -> None:
        """Remember the event, and perhaps end."""
        super().emit(event)
        if isinstance(event, TrainingPointMessage) and event.step == self.step and not self.checks_after:
            raise self.error

    def on_check(self) -> None:
        """End at the right one."""
        sent = training_points(self.events)
        if self.checks_after and sent and sent[-1].step == self.step:
            self.checks_after -= 1
            if self.checks_after == 0:
                raise self.error


@pytest.fixture
def steps_per_epoch(run: StoredRun) -> int:
    """Give how many batches of 16 the run has."""
    return len(run.rows) // 16


def interrupted(task: TrainSae, **how: Any) -> EndingContext:
    """Train until the context ends it."""
    context = EndingContext(**how)
    with pytest.raises(type(context.error)):
        train_sae(task, context, CLASSES)
    return context


def resumed(task: TrainSae) -> RecordingContext:
    """Train again, to the end."""
    context = RecordingContext()
    train_sae(msgspec.structs.replace(task, attempt=2), context, CLASSES)
    return context


def uninterrupted(task: TrainSae, directory: Path) -> tuple[TrainSae, RecordingContext]:
    """Train the same elsewhere, in one go."""
    other, context = (
        msgspec.structs.replace(task, sae_dir=str(directory / "uninterrupted")),
        RecordingContext(),
    )
    train_sae(other, context, CLASSES)
    return other, context


def logged(context: RecordingContext) -> list[str]:
    """Return the sentences among the events."""
    return [event.message for event in context.events if isinstance(event, Log)]


def resumptions(context: RecordingContext) -> list[TrainingResumed]:
    """Return what was said of going on."""
    return [event for event in context.events if isinstance(event, TrainingResumed)]


def timeless(found: list[TrainingPointMessage]) -> list[TrainingPointMessage]:
    """Return points without what depends on the clock."""
    return [msgspec.structs.replace(point, tokens_per_second=0.0) for point in found]


def all_points(context: RecordingContext) -> list[TrainingPointMessage]:
    """Return what somebody who follows the events knows at the end."""
    (resumption,) = resumptions(context)
    return timeless(resumption.points + training_points(context.events))


def file_contents(task: TrainSae) -> tuple[Any, Any]:
    """Return history and metadata without what depends on the clock."""
    directory = Path(task.sae_dir)
    history = json.loads((directory / "history.json").read_text())
    metadata = json.loads((directory / "metadata.json").read_text())
    for point in [*history, metadata["final_metrics"]]:
        del point["tokens_per_second"]
    del metadata["created_at"]
    return history, metadata


def tensors(content: Any) -> list[Tensor]:
    """Return all tensors of a checkpoint, in order."""
    if isinstance(content, Tensor):
        return [content]
    return (
        [found for item in content.values() for found in tensors(item)] if isinstance(content, dict) else []
    )


def assert_same_files(task: TrainSae, other: TrainSae) -> None:
    """Assert that two trainings left the same, and nothing else but perhaps a snapshot."""
    files = {path.name for path in Path(task.sae_dir).iterdir()} - {SNAPSHOT_FILE}
    assert files == {"history.json", "metadata.json", "sae.pt"}
    weights, expected = (tensors(torch.load(Path(one.sae_dir) / "sae.pt")) for one in (task, other))
    assert len(weights) == len(expected) > 2
    assert all(torch.equal(one, two) for one, two in zip(weights, expected, strict=True))
    assert file_contents(task) == file_contents(other)


def assert_as_if_never_interrupted(task: TrainSae, context: RecordingContext, directory: Path) -> None:
    """Assert that the training that ended in this context left and told what an uninterrupted one does."""
    other, expected = uninterrupted(task, directory)
    assert_same_files(task, other)
    assert all_points(context) == timeless(training_points(expected.events))


# ------------------------------------------------------------------------------------- same result


@pytest.mark.parametrize("buffer_bytes", [MEMORY, POOL], ids=["memory", "pool"])
@pytest.mark.parametrize(
    ("sae_class", "k", "place"),
    [
        *(
            (sae_class, k, place)
            for sae_class, k in [("TopKSae", 3), ("L1Sae", None), ("DummySae", None), ("RestlessSae", None)]
            for place in ["first step", "mid-epoch", "epoch's end", "next epoch", "last step"]
        ),
        *(
            (sae_class, 3, place)
            for sae_class in ["BatchTopKSae", "BiasedTopKSae", "JumpReLUSae"]
            for place in ["first step", "next epoch"]
        ),
    ],
)
def test_a_canceled_training_goes_on_at_its_step_as_if_never_interrupted(
    run: StoredRun,
    steps_per_epoch: int,
    tmp_path: Path,
    sae_class: str,
    k: int | None,
    buffer_bytes: int,
    place: str,
) -> None:
    step = {
        "first step": 1,
        "mid-epoch": steps_per_epoch // 2,
        "epoch's end": 2 * steps_per_epoch,
        "next epoch": 2 * steps_per_epoch + 1,
        "last step": 4 * steps_per_epoch,
    }[place]
    task = training_task(tmp_path, sae_class=sae_class, k=k, shuffle_buffer_bytes=buffer_bytes)
    interrupted(task, step=step)
    context = resumed(task)
    assert [event.step for event in resumptions(context)] == [step]
    assert_as_if_never_interrupted(task, context, tmp_path)


@pytest.mark.parametrize("buffer_bytes", [MEMORY, POOL], ids=["memory", "pool"])
def test_a_killed_training_goes_on_from_its_last_snapshot(
    run: StoredRun, steps_per_epoch: int, tmp_path: Path, buffer_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = steps_per_epoch + 3
    task = training_task(tmp_path, shuffle_buffer_bytes=buffer_bytes)
    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "due", lambda snapshots: True)
        killed = interrupted(task, step=last, error=Killed())
    context = resumed(task)
    assert timeless(resumptions(context)[0].points) == timeless(training_points(killed.events)[:-1])
    assert resumptions(context)[0].step == last - 1
    assert_as_if_never_interrupted(task, context, tmp_path)


def test_a_first_snapshot_is_written_when_the_interval_is_over(run: StoredRun, tmp_path: Path) -> None:
    task = training_task(tmp_path, snapshot_interval_seconds=0.0)
    interrupted(task, step=2, error=Killed())
    assert resumptions(resumed(task))[0].step == 1
    task = training_task(tmp_path, snapshot_interval_seconds=1e9, sae_dir=str(tmp_path / "other"))
    interrupted(task, step=20, error=Killed())
    assert not Path(task.sae_dir).exists()


def test_a_training_that_is_interrupted_twice_ends_the_same(
    run: StoredRun, steps_per_epoch: int, tmp_path: Path
) -> None:
    task = training_task(tmp_path, sae_class="RestlessSae", k=None, shuffle_buffer_bytes=POOL)
    interrupted(task, step=3)
    interrupted(task, step=steps_per_epoch + 5, checks_after=1)
    context = resumed(task)
    assert resumptions(context)[0].step == steps_per_epoch + 5
    assert_as_if_never_interrupted(task, context, tmp_path)


def test_a_training_that_is_interrupted_again_before_its_next_step_keeps_its_place(
    run: StoredRun, tmp_path: Path
) -> None:
    task = training_task(tmp_path, shuffle_buffer_bytes=POOL)
    interrupted(task, step=6)
    before = (Path(task.sae_dir) / "snapshot.pt").stat()

    context = RecordingContext()

    def cancel() -> None:
        if resumptions(context):
            raise CancelRequested

    context.on_check = cancel  # type: ignore[method-assign]
    with pytest.raises(CancelRequested):
        train_sae(task, context, CLASSES)
    assert (Path(task.sae_dir) / "snapshot.pt").stat().st_ino == before.st_ino
    assert_as_if_never_interrupted(task, resumed(task), tmp_path)


def test_averages_over_an_interval_go_on_in_the_middle_of_it(
    run: StoredRun, steps_per_epoch: int, tmp_path: Path
) -> None:
    epochs = math.ceil(401 / steps_per_epoch)
    task = training_task(tmp_path, epochs=epochs)
    interrupted(task, step=300, checks_after=2)
    context = resumed(task)
    assert resumptions(context)[0].step == 301
    assert resumptions(context)[0].points[-1].step == 300
    assert training_points(context.events)[0].step == 303
    assert_as_if_never_interrupted(task, context, tmp_path)


def test_figures_that_are_undefined_stay_so(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for batch in range(4):
        masks = {"attention_mask": torch.ones(4, 8), "input_ids": torch.zeros(4, 8)}
        activations = {"activations": torch.ones(4, 8, WIDTH)}
        store.put_detector_metadata("run_a", batch, {}, {LAYER: activations, "attention_masks": masks})
    task = training_task(tmp_path)
    interrupted(task, step=3)
    found = resumptions(resumed(task))[0].points
    assert [math.isnan(point.explained_variance) for point in found] == [True] * 3


def test_the_rest_of_an_epoch_is_what_it_would_have_been(run: StoredRun, steps_per_epoch: int) -> None:
    for buffer_bytes in (MEMORY, POOL, 0):
        whole, rest = (training_store(run, buffer_bytes=buffer_bytes) for _ in range(2))
        epochs = [epoch(whole) for _ in range(3)]
        rest.start_at(1, 4)
        for expected in (epochs[1][4:], epochs[2]):
            found = epoch(rest)
            assert len(found) == len(expected)
            assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


# ------------------------------------------------------------------------------------ what it says


def test_going_on_is_told_after_the_configuration_with_the_points_so_far(
    run: StoredRun, steps_per_epoch: int, tmp_path: Path
) -> None:
    task = training_task(tmp_path)
    first = interrupted(task, step=5)
    context = resumed(task)
    assert isinstance(context.events[0], TrainingConfigChosen)
    place = f"step 5 of {4 * steps_per_epoch}"
    assert logged(context)[1] == f"Going on after {place}, from the snapshot of an earlier attempt."
    assert isinstance(context.events[3], TrainingResumed)
    assert timeless(context.events[3].points) == timeless(training_points(first.events))
    assert next(event.completed for event in context.events if isinstance(event, Progress)) == 6


def test_a_first_attempt_says_nothing_of_snapshots(run: StoredRun, tmp_path: Path) -> None:
    context = RecordingContext()
    train_sae(training_task(tmp_path), context, CLASSES)
    assert not resumptions(context)
    assert len(logged(context)) == 2


def test_a_further_attempt_without_a_snapshot_begins_anew_and_says_so(run: StoredRun, tmp_path: Path) -> None:
    context = resumed(training_task(tmp_path))
    assert logged(context)[1] == "There is no snapshot to go on from, so the training begins anew."
    assert resumptions(context) == [TrainingResumed(0, [])]
    assert training_points(context.events)[0].step == 1


@pytest.mark.parametrize("damage", ["cut off", "a bit", "not a snapshot"])
def test_a_damaged_snapshot_begins_anew_and_says_so(run: StoredRun, tmp_path: Path, damage: str) -> None:
    task = training_task(tmp_path)
    interrupted(task, step=9)
    path = Path(task.sae_dir) / "snapshot.pt"
    content = bytearray(path.read_bytes())
    if damage == "a bit":
        rows = torch.load(path)["state"]["optimizer"]["state"][0]["exp_avg"]
        content[content.index(rows.numpy().tobytes()) + 3] ^= 1
    path.write_bytes(content[: len(content) // 2] if damage == "cut off" else content)
    if damage == "not a snapshot":
        torch.save([1], path)
    context = resumed(task)
    assert logged(context)[1] == "The snapshot cannot be read, so the training begins anew."
    assert_as_if_never_interrupted(task, context, tmp_path)


def test_a_run_that_has_grown_begins_anew_and_says_so(run: StoredRun, tmp_path: Path) -> None:
    task = training_task(tmp_path)
    interrupted(task, step=9)
    grown = write_run(run.store, n_batches=8)
    context = resumed(task)
    assert logged(context)[1] == (
        f"The snapshot's token count is {len(run.rows)}, this training's is {len(grown.rows)}, "
        "so the training begins anew."
    )
    assert_as_if_never_interrupted(task, context, tmp_path)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seed": 6}, "seed is 5"),
        ({"learning_rate": 1e-3}, "learning rate is "),
        ({"shuffle_buffer_bytes": POOL}, "shuffle buffer is "),
        ({"sae_class": "L1Sae", "k": None}, "SAE class is TopKSae"),
    ],
)
def test_another_training_begins_anew_and_says_why(
    run: StoredRun, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    task = training_task(tmp_path)
    interrupted(task, step=9)
    task = msgspec.structs.replace(task, **changes)
    context = resumed(task)
    assert logged(context)[1].startswith(f"The snapshot's {what}")
    assert_as_if_never_interrupted(task, context, tmp_path)


def test_a_larger_buffer_than_the_run_needs_is_no_other_training(run: StoredRun, tmp_path: Path) -> None:
    task = training_task(tmp_path)
    interrupted(task, step=9)
    context = resumed(msgspec.structs.replace(task, shuffle_buffer_bytes=2 * MEMORY))
    assert resumptions(context)[0].step == 9


@pytest.mark.parametrize("before", [DummySae, RestlessSae])
def test_a_snapshot_of_an_engine_that_has_changed_begins_anew_and_leaves_nothing_of_it(
    run: StoredRun, tmp_path: Path, before: type[DummySae]
) -> None:
    task = training_task(tmp_path, sae_class="ExtendedSae", k=None)
    with pytest.raises(CancelRequested):
        train_sae(task, EndingContext(step=9), SaeClasses({"ExtendedSae": before}))
    context = resumed(task)
    reason = "The snapshot does not fit the SAE class as it is now"
    assert logged(context)[1] == f"{reason}, so the training begins anew."
    assert_as_if_never_interrupted(task, context, tmp_path)


# --------------------------------------------------------------------------- the end of a training


def test_a_training_whose_files_could_not_be_written_writes_them_without_training_again(
    run: StoredRun, steps_per_epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = training_task(tmp_path)
    in_the_way = Path(task.sae_dir) / "history.json"
    in_the_way.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "due", lambda snapshots: True)
        with pytest.raises(IsADirectoryError):
            train_sae(task, RecordingContext(), CLASSES)
    in_the_way.rmdir()
    context = resumed(task)
    assert resumptions(context)[0].step == 4 * steps_per_epoch
    assert not training_points(context.events)
    assert_as_if_never_interrupted(task, context, tmp_path)


def test_a_training_that_was_killed_over_its_last_word_can_be_tried_again(
    run: StoredRun, tmp_path: Path
) -> None:
    task = training_task(tmp_path, snapshot_interval_seconds=0.0)
    context = RecordingContext()

    def emit(event: Event) -> None:
        context.events.append(event)
        if isinstance(event, Log) and event.message.startswith("Trained"):
            raise Killed

    context.emit = emit  # type: ignore[method-assign]
    with pytest.raises(Killed):
        train_sae(task, context, CLASSES)
    assert {path.name for path in Path(task.sae_dir).iterdir()} >= {"sae.pt", "snapshot.pt"}
    assert_as_if_never_interrupted(task, resumed(task), tmp_path)


# ----------------------------------------------------------------------------- the file on the disk


def snapshot(step: int, n_values: int = 4) -> Snapshot:
    """Make a snapshot of no training."""
    return Snapshot(step, {"weights": torch.arange(float(n_values))}, {}, {}, {}, {"loss": math.nan})


@dataclass
class Clock:
    """A clock that goes on by ``tick`` with each look."""

    now: float = 0.0
    tick: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        self.now += self.tick
        return self.now


def make_snapshots(directory: Path, min_free_bytes: int = 0, **options: Any) -> Snapshots:
    """Make those of a training that is known by a single number."""
    return Snapshots(directory, {"seed": 1}, interval_seconds=30.0, min_free_bytes=min_free_bytes, **options)


def test_a_snapshot_is_due_after_the_interval_and_later_where_writing_takes_long(tmp_path: Path) -> None:
    clock = Clock()
    snapshots = make_snapshots(tmp_path, clock=clock)
    clock.now = 29.0
    assert not snapshots.due()
    clock.now = 30.0
    assert snapshots.due()
    clock.tick = 5.0
    snapshots.write(snapshot(1))
    clock.tick = 0.0
    clock.now += 99.0
    assert not snapshots.due()
    clock.now += 1.0
    assert snapshots.due()
    snapshots.write(snapshot(2))
    clock.now += 30.0
    assert snapshots.due()


def test_a_snapshot_is_read_as_it_was_written_and_takes_the_last_ones_place(tmp_path: Path) -> None:
    snapshots = make_snapshots(tmp_path)
    for step in (1, 2):
        snapshots.write(snapshot(step))
    found = make_snapshots(tmp_path).read()
    assert found.step == 2
    assert torch.equal(found.engine["weights"], torch.arange(4.0))
    assert math.isnan(found.report["loss"])
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot.pt"]
    (tmp_path / "snapshot.pt").unlink()
    assert not snapshots.exists()
    with pytest.raises(UnusableSnapshot, match="no snapshot"):
        snapshots.read()


def test_a_disk_without_room_fails_the_training_and_keeps_the_last_snapshot(
    run: StoredRun, tmp_path: Path
) -> None:
    task = training_task(tmp_path)
    interrupted(task, step=4)
    full = msgspec.structs.replace(task, snapshot_interval_seconds=0.0, min_free_bytes=2**62)
    with pytest.raises(OSError, match="No space left") as caught:
        train_sae(full, RecordingContext(), CLASSES)
    assert caught.value.errno == errno.ENOSPC
    assert resumptions(resumed(task))[0].step == 4


def test_a_canceled_training_ends_as_canceled_also_where_the_disk_has_no_room(
    run: StoredRun, tmp_path: Path
) -> None:
    task = training_task(tmp_path, min_free_bytes=2**62)
    interrupted(task, step=4)
    assert list(Path(task.sae_dir).iterdir()) == []


def test_a_canceled_training_does_not_make_a_server_that_stops_wait_for_a_large_snapshot(
    tmp_path: Path,
) -> None:
    snapshots = make_snapshots(tmp_path)
    snapshots.write_if_quick(snapshot(1, n_values=QUICK_BYTES // 4 + 1))
    assert not snapshots.exists()
    snapshots.write_if_quick(snapshot(0))
    assert not snapshots.exists()
    snapshots.write_if_quick(snapshot(1))
    assert snapshots.exists()
