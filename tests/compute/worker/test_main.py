"""The worker's loop, without a process or a socket."""

import queue
import threading
import time
from typing import Any, cast

import msgspec
import pytest

from gql_server.compute.worker import interactive_turns
from gql_server.compute.worker.channel import Channel
from gql_server.compute.worker.context import TaskError
from gql_server.compute.worker.failures import GAVE_UP
from gql_server.compute.worker.main import Runner, RunningTask, Worker
from gql_server.protocol.results import GenerateResult, Result
from gql_server.protocol.sources import LanguageModelSource, SaeSource
from gql_server.protocol.tasks import (
    AttributeNeurons,
    FindTopNeurons,
    Generate,
    ReadNeuronActivations,
    Task,
    UnloadLanguageModel,
)
from gql_server.protocol.wire import (
    StartTask,
    TaskBegan,
    TaskCanceledMessage,
    TaskFailed,
    TaskSucceeded,
    WorkerAlive,
)
from tests.support.generation_tasks import generation_task


class Sent:
    """A channel that keeps what is sent, and on which nothing comes."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()

    def send(self, message: object) -> None:
        self.messages.put(message)

    def receive(self) -> object:
        threading.Event().wait()
        raise AssertionError


def test_a_task_stands_still_for_as_many_looks_as_were_made_whatever_the_clock_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: queue.Queue[None] = queue.Queue()
    hours = iter(range(0, 3600 * 1000, 3600))
    monkeypatch.setattr(time, "sleep", lambda _: looks.get())
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    channel = Sent()
    worker = Worker(cast("Channel", channel), lambda send: cast("Runner", None), 900)
    for seconds in (1.0, 2.0, 3.0):
        looks.put(None)
        assert channel.messages.get(timeout=10) == WorkerAlive(seconds)
    worker.mark_progress()
    looks.put(None)
    assert channel.messages.get(timeout=10) == WorkerAlive(0.0)
    looks.put(None)
    assert channel.messages.get(timeout=10) == WorkerAlive(1.0)


class Panic(BaseException):
    """As a Rust library's, which is no Exception."""


class Panicking:
    """Tools that a library lets down."""

    def do(self, task: object, context: object) -> None:
        raise Panic("of a library, with a path in it")


def test_a_library_that_panics_fails_the_task_and_the_worker_goes_on() -> None:
    channel = Sent()
    worker = Worker(cast("Channel", channel), lambda send: cast("Runner", Panicking()), 900)
    for task_id in (1, 2):
        worker.do(StartTask(task_id, "interactive", UnloadLanguageModel("lm_a")))
        assert channel.messages.get(timeout=10) == TaskBegan(task_id)
        failed = channel.messages.get(timeout=10)
        assert (failed.task_id, failed.code, failed.reason) == (task_id, "FAILED", GAVE_UP)


SOURCE = LanguageModelSource("lm_a", "DIRECTORY", "/nowhere", None, "FLOAT32", "/nowhere")


def generate(prompt: str, max_new_tokens: int, source: LanguageModelSource = SOURCE) -> Generate:
    return generation_task(source, [prompt], max_new_tokens)


class Writing:
    """Tools that write down what they do, a step for each token."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def do(self, task: Generate | FindTopNeurons, context: RunningTask) -> Result:
        for _ in range(min(3, task.max_new_tokens) if isinstance(task, Generate) else 1):
            context.check()
            self.steps.append(task.prompts[0])
        return GenerateResult(top_texts_written=False)


class Fed(Sent):
    """A channel on which messages come that a test gives."""

    def __init__(self, *messages: object) -> None:
        super().__init__()
        self._coming = iter(messages)

    def receive(self) -> object:
        return next(self._coming, None) or super().receive()


def steps_of(*tasks: Task) -> list[str]:
    """Return the steps of a worker that has got all tasks before it begins with the first."""
    tools = Writing()
    channel = Fed(*(StartTask(number, "interactive", task) for number, task in enumerate(tasks)))
    worker = Worker(cast("Channel", channel), lambda send: cast("Runner", tools), 900)
    while sum(map(len, worker.inbox._waiting.values())) < len(tasks):
        time.sleep(0.001)
    while (message := worker.inbox.take()) is not None:
        worker.interactive.run(message)
    return [step[:6] for step in tools.steps]


@pytest.fixture(autouse=True)
def steps_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactive_turns, "QUICK_SECONDS", 60)


LONG = 2048


def find_top(prompt: str) -> FindTopNeurons:
    return FindTopNeurons(
        SOURCE, SaeSource("sae_a", "TopKSae", "/nowhere", "layer", 8, 16, 2), [prompt], 5, False
    )


def test_short_tasks_are_done_between_a_long_ones_steps_one_at_a_time() -> None:
    long, short = generate("long", LONG), find_top("short")
    # Before its first step is a check as well.
    assert steps_of(long, short, short, short, short, short) == ["short"] + ["short", "long"] * 3 + ["short"]


def test_one_short_task_is_done_in_each_round_of_the_others_steps() -> None:
    steps = steps_of(generate("a", LONG), generate("b", LONG), *[find_top("short")] * 3)
    # The first three rounds are of the steps before the first token.
    assert steps == ["short"] * 2 + ["a", "short"] + ["a", "b", "a", "b", "b"]


def test_a_short_task_is_done_after_every_step_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactive_turns, "QUICK_SECONDS", -1)
    steps = steps_of(generate("a", LONG), generate("b", LONG), *[find_top("short")] * 7)
    # Steps before a first token are steps too.
    assert steps == ["short"] * 3 + ["a", "short", "short", "a", "short", "b", "short", "a", "b", "b"]


@pytest.mark.parametrize(
    ("n_characters", "ablate", "short"),
    [(4_000 // 13, 10, True), (4_000 // 13 + 1, 10, False), (1_333, 0, True)],
)
def test_an_attribution_is_short_by_its_passes(n_characters: int, ablate: int, short: bool) -> None:
    sae = SaeSource("sae_a", "TopKSae", "/nowhere", "layer", 8, 32, 4)
    task = AttributeNeurons(SOURCE, sae, "x" * n_characters, None, None, None, 20, ablate, 2_048)
    assert interactive_turns.is_short(task) is short
    chat = msgspec.structs.replace(task, prompt="x", chat="x" * n_characters)
    assert interactive_turns.is_short(chat) is short


@pytest.mark.parametrize(("n_characters", "short"), [(2_000, True), (2_001, False)])
def test_reading_activations_is_short_by_its_texts(n_characters: int, short: bool) -> None:
    sae = SaeSource("sae_a", "TopKSae", "/nowhere", "layer", 8, 32, 4)
    task = ReadNeuronActivations(SOURCE, sae, ["x" * n_characters] * 2, None, [0], 2_048)
    assert interactive_turns.is_short(task) is short
    top = FindTopNeurons(SOURCE, sae, ["x"] * 2, 5, False, chats=["x" * n_characters] * 2)
    assert interactive_turns.is_short(top) is short


def test_long_ones_go_on_in_turns() -> None:
    other = generate("other", LONG, msgspec.structs.replace(SOURCE, id="lm_b"))
    assert steps_of(generate("first", LONG), find_top("x" * 5_000), other) == [
        *["first", "first", "xxxxxx", "other", "first", "other", "other"]
    ]


def test_a_generation_with_baselines_holds_twice_as_much() -> None:
    half = generate("long", interactive_turns.MAX_POSITIONS_AT_ONCE // 2)
    steps = steps_of(generate("first", LONG), msgspec.structs.replace(half, compare_to_baseline=True))
    assert steps == ["first"] * 3 + ["long"] * 3


@pytest.mark.parametrize(
    ("rows", "new", "held"),
    [
        # One long among many short: what they have themselves, twice.
        ([3000] + [3] * 99, 1, 2 * (1001 + 99 * 2)),
        # As long as each other: no padding.
        ([300] * 4, 20, 4 * 120),
        # Somewhat longer: all rows as long as the longest.
        ([300, 240, 240], 20, 3 * 120),
        ([], 20, 0),
    ],
)
def test_what_generations_hold_is_counted_with_padding(rows: list[int], new: int, held: int) -> None:
    texts = ["x" * length for length in rows]
    whole = msgspec.structs.replace(generate("a", new), prompts=texts)
    assert interactive_turns.positions_held([whole]) == held
    # One after the other, in one request, or as chats: they may come into one batch.
    each = [msgspec.structs.replace(whole, prompts=[text]) for text in texts]
    assert interactive_turns.positions_held([*each, find_top("y" * 9)]) == held
    chats = msgspec.structs.replace(whole, prompts=["x"] * len(texts), chats=texts)
    assert interactive_turns.positions_held([chats]) == held
    both = msgspec.structs.replace(whole, compare_to_baseline=True)
    assert interactive_turns.positions_held([both]) == 2 * held


def test_a_generation_waits_where_the_padding_of_a_shorter_one_would_be_too_much() -> None:
    quarter = interactive_turns.MAX_POSITIONS_AT_ONCE // 4
    short, fits, too_long = generate("short", quarter), 2 * quarter - 9, 2 * quarter + 1
    assert steps_of(short, generate("long", too_long)) == ["short"] * 3 + ["long"] * 3
    beside = steps_of(short, generate("long", fits))
    assert sorted(beside) == ["long"] * 3 + ["short"] * 3 and beside.index("long") < 3


def test_what_would_hold_too_much_beside_others_waits_and_what_comes_after_it_too() -> None:
    large = generate("large", interactive_turns.MAX_POSITIONS_AT_ONCE)
    steps = steps_of(generate("first", LONG), large, generate("third", LONG))
    assert steps[:3] == ["first"] * 3
    assert sorted(steps[3:]) == ["large"] * 3 + ["third"] * 3
    assert steps.index("third") > steps.index("large")


def test_the_same_language_model_with_other_options_waits_for_the_end() -> None:
    other = msgspec.structs.replace(SOURCE, dtype="FLOAT16")
    steps = steps_of(generate("first", LONG), generate("other", LONG, other))
    assert steps == ["first"] * 3 + ["other"] * 3


def test_a_task_that_is_canceled_or_fails_ends_alone() -> None:
    class Failing(Writing):
        def do(self, task: Generate | FindTopNeurons, context: RunningTask) -> Result:
            result = super().do(task, context)
            if task.prompts == ["fails"]:
                raise TaskError("It cannot be done.")
            return result

    tools, names = Failing(), ["goes on", "is canceled", "fails"]
    messages = [StartTask(n, "interactive", generate(name, LONG)) for n, name in enumerate(names)]
    channel = Fed(*messages)
    worker = Worker(cast("Channel", channel), lambda send: cast("Runner", tools), 900)
    while sum(map(len, worker.inbox._waiting.values())) < len(messages):
        time.sleep(0.001)
    first = worker.inbox.take()
    assert first is not None
    worker.inbox._canceled.add(1)
    worker.interactive.run(first)
    sent = [message for message in channel.messages.queue if not isinstance(message, WorkerAlive)]
    ends = {message.task_id: type(message) for message in sent if not isinstance(message, TaskBegan)}
    assert ends == {0: TaskSucceeded, 1: TaskCanceledMessage, 2: TaskFailed}
    assert sorted(tools.steps) == ["fails"] * 3 + ["goes on"] * 3
