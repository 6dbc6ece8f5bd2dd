"""Generations that go on beside each other, as a worker has them do, and alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.batching import can_join
from gql_server.compute.generating.generation import Generations, generate
from gql_server.compute.worker.context import CancelRequested
from gql_server.protocol.events import OutputFinished, TokenGenerated
from gql_server.protocol.tasks import Generate
from tests.compute.conftest import RecordingContext

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae


@dataclass
class Request:
    """A generation, and what has become of it."""

    task: Generate
    sae: Sae | None = None
    begins: int = 0
    """The round in which it comes."""
    canceled_at: int | None = None
    """The number of its check at which it is canceled."""
    context: RecordingContext = field(default_factory=RecordingContext)
    error: Exception | None = None

    @property
    def outputs(self) -> list[OutputFinished]:
        """Return what has been generated."""
        return [event for event in self.context.events if isinstance(event, OutputFinished)]

    @property
    def tokens(self) -> list[TokenGenerated]:
        """Return the tokens in the order in which they were sent."""
        return [event for event in self.context.events if isinstance(event, TokenGenerated)]


def run_together(
    lm: LanguageModel, requests: Sequence[Request], generations: Generations | None = None
) -> None:
    """Do generations in turns, each a step in every round, from the round on in which it comes."""
    home, shared = getcurrent(), generations or Generations()
    waiting = [(request, _stack(lm, request, shared, home.switch)) for request in requests]
    number = 0
    while waiting:
        for request, stack in waiting:
            if request.begins <= number:
                stack.switch()
        waiting = [(request, stack) for request, stack in waiting if not stack.dead]
        number += 1


def run_alone(lm: LanguageModel, requests: Sequence[Request]) -> list[Request]:
    """Do the same generations one after the other, none of them canceled, without anything in common."""
    alone = [Request(request.task, request.sae) for request in requests]
    for request in alone:
        run_together(lm, [request])
    return alone


def _stack(lm: LanguageModel, request: Request, shared: Generations, switch: Callable[[], Any]) -> greenlet:
    def check() -> None:
        switch()
        if request.canceled_at is not None and request.context.checks >= request.canceled_at:
            raise CancelRequested

    def run() -> None:
        try:
            generate(request.task, request.context, lm, request.sae, shared)
        except Exception as error:
            request.error = error

    request.context.on_check = check  # type: ignore[method-assign]
    return greenlet(run)


@contextmanager
def noted_batch_sizes(lm: LanguageModel) -> Iterator[list[int]]:
    """Give how many rows each pass takes while the block runs."""
    can_join(lm)  # Tried now, not in the block.
    sizes: list[int] = []
    embedding: Any = lm.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    try:
        yield sizes
    finally:
        handle.remove()
