"""Turns of interactive tasks: a short one is done at once, the others go on beside each other, step by step.

Each task runs on a stack of its own (a greenlet), which it leaves between one step and the next.
"""

import time
from collections.abc import Callable, Sequence

from greenlet import getcurrent, greenlet

from gql_server.compute.generating.padding import MAX_PADDING
from gql_server.compute.worker.inbox import Inbox
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import (
    PASSES_OF_A_GRADIENT,
    AttributeNeurons,
    ContrastNeurons,
    FindTopNeurons,
    Generate,
    LoadLanguageModel,
    ReadNeuronActivations,
    Task,
    UnloadLanguageModel,
)
from gql_server.protocol.wire import StartTask

QUICK_SECONDS = 0.02
"""Time of a step up to which others follow it at once: a generation that takes up a pass made for many."""
MAX_CHARACTERS = 4_000
"""Limit on the characters that a short task reads."""
MAX_POSITIONS_AT_ONCE = 131_072
"""Positions, padding among them, whose keys and values generations hold at once: twice the tokens that a
request may have by default."""
CHARACTERS_OF_A_TOKEN = 3
"""Assumed characters per token; most texts have more."""


def is_short(task: Task) -> bool:
    """Whether a task is done within a moment, once its language model is loaded."""
    match task:
        case UnloadLanguageModel():
            return True
        case FindTopNeurons() | ContrastNeurons() | ReadNeuronActivations():
            return _characters(task) <= MAX_CHARACTERS
        case AttributeNeurons():
            return _characters(task) * (PASSES_OF_A_GRADIENT + task.ablate) <= MAX_CHARACTERS
        case _:
            return False


def positions_held(tasks: Sequence[Task]) -> int:
    """Return about how many positions of keys and values tasks hold between their steps at most.

    Rows of one batch are as long as its longest; rows that this would make too much of go on apart.
    """
    rows = [length for task in tasks if isinstance(task, Generate) for length in _row_lengths(task)]
    return min(len(rows) * max(rows, default=0), MAX_PADDING * sum(rows))


def _row_lengths(task: Generate) -> list[int]:
    """Return about how many tokens each of a generation's rows has in the end."""
    texts = task.chats or task.prompts
    lengths = [len(text) // CHARACTERS_OF_A_TOKEN + task.max_new_tokens for text in texts]
    return lengths * (2 if task.compare_to_baseline else 1)


def _characters(
    task: FindTopNeurons | ContrastNeurons | ReadNeuronActivations | AttributeNeurons,
) -> int:
    match task:
        case FindTopNeurons() | ReadNeuronActivations():
            texts = task.chats or task.prompts
        case AttributeNeurons():
            texts = [task.chat or task.prompt]
        case ContrastNeurons():
            texts = [*task.texts_a, *task.texts_b]
    return sum(map(len, texts))


def _source_of(task: Task) -> LanguageModelSource | None:
    match task:
        case Generate() | FindTopNeurons() | ContrastNeurons() | ReadNeuronActivations() | AttributeNeurons():
            return task.language_model
        case LoadLanguageModel(source):
            return source
        case _:
            return None


class _Begun:
    """A task that has begun."""

    def __init__(self, message: StartTask, do: Callable[[StartTask], None]) -> None:
        self.task = message.task
        self._stack = greenlet(lambda: do(message))

    def go_on(self) -> bool:
        """Do its next step; says whether there are more."""
        self._stack.switch()
        return not self._stack.dead


class InteractiveTurns:
    """Does interactive tasks, several long ones beside each other; ``do`` does one, and calls ``pause``."""

    def __init__(self, inbox: Inbox, do: Callable[[StartTask], None]) -> None:
        self._inbox = inbox
        self._do = do
        self._home: greenlet | None = None
        self._current: _Begun | None = None
        self._begun: list[_Begun] = []
        """Tasks that go on in turns."""

    def run(self, message: StartTask) -> None:
        """Do a task, and if it is a long one, all interactive ones that come meanwhile, to their ends."""
        self._home = getcurrent()
        if _is_short(message):
            self._finish(message)
            return
        self._begun = [_Begun(message, self._do)]
        while self._begun:
            self._have_all_go_on()
            self._let_in()

    def pause(self) -> None:
        """Let others go on: called in a task between one step and the next."""
        if self._current is not None:
            assert self._home is not None
            self._home.switch()

    def _have_all_go_on(self) -> None:
        """Have each task do a step, with a short one after every step that takes long, and at the end."""
        n_tasks = len(self._begun)
        for number, begun in enumerate(list(self._begun), 1):
            began = time.monotonic()
            if not self._goes_on(begun):
                self._begun.remove(begun)
            if number == n_tasks or time.monotonic() - began > QUICK_SECONDS:
                self._do_short()

    def _do_short(self) -> None:
        """Do the first short task that waits, if any."""
        in_hand = [one.task for one in self._begun]
        message = self._inbox.take_that(_is_short, lambda message: _have_one_state(message.task, in_hand))
        if message is not None:
            self._finish(message)

    def _finish(self, message: StartTask) -> None:
        """Do a short task to its end, without a turn for others."""
        short = _Begun(message, self._do)
        while self._goes_on(short):
            pass

    def _let_in(self) -> None:
        """Have long tasks that have come begin, as far as there is room."""
        while (message := self._inbox.take_that(_is_long, self._has_room)) is not None:
            self._begun.append(_Begun(message, self._do))

    def _goes_on(self, begun: _Begun) -> bool:
        self._current = begun
        try:
            return begun.go_on()
        finally:
            self._current = None

    def _has_room(self, message: StartTask) -> bool:
        """Whether a long task may begin beside those that have begun."""
        in_hand = [one.task for one in self._begun]
        if not in_hand:
            return True
        held = positions_held([*in_hand, message.task])
        return held <= MAX_POSITIONS_AT_ONCE and _have_one_state(message.task, in_hand)


def _is_short(message: StartTask) -> bool:
    return is_short(message.task)


def _is_long(message: StartTask) -> bool:
    return not is_short(message.task)


def _have_one_state(task: Task, others: Sequence[Task]) -> bool:
    """Whether no other needs the task's language model in another state: there may be no room for two."""
    source = _source_of(task)
    sources = filter(None, map(_source_of, others))
    return source is None or all(other == source for other in sources if other.id == source.id)
