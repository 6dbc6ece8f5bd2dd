"""Metrics, span and log line of a top-neuron query or a generation: how long it waited and took."""

import time
from types import TracebackType

import structlog

from gql_server.jobs.executor import TaskRun
from gql_server.telemetry.outcomes import OK, outcome_of
from gql_server.telemetry.telemetry import Telemetry
from gql_server.telemetry.tracing import Attributes, prefixed

log = structlog.get_logger(__name__)


class Inference:
    """One request, from its entry into the line to its end, as a context manager."""

    def __init__(self, kind: str, telemetry: Telemetry, about: Attributes, n_tokens: int = 0) -> None:
        self._n_tokens = n_tokens
        self._kind = kind
        self._metrics = telemetry.metrics.inference
        self._about = about
        self._span = telemetry.tracer.start(f"inference {kind}", prefixed(about))
        self._began = time.perf_counter()
        self._waited: float | None = None

    def __enter__(self) -> "Inference":
        self._metrics.waits(self._kind)
        return self

    def follow(self, run: TaskRun) -> None:
        """Measure the wait until the worker begins the request's task."""
        run.when_begun(self._begin)

    def generated(self) -> None:
        """Count a token that was made."""
        self._n_tokens += 1
        self._metrics.generated()

    def _begin(self) -> None:
        if self._waited is None:
            self._waited = time.perf_counter() - self._began
            self._metrics.waited(self._kind, self._waited)

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        self._begin()  # One that never began has waited until now.
        seconds = time.perf_counter() - self._began
        outcome = OK if error is None else outcome_of(error)
        self._metrics.ended(self._kind, outcome, seconds)
        self._span.note(prefixed({"tokens": self._n_tokens, "waited_seconds": self._waited}))
        self._span.conclude(outcome)
        self._span.end()
        log.info(
            self._kind.replace("_", " "),
            **self._about,
            tokens=self._n_tokens,
            milliseconds=_milliseconds(seconds),
            waited_milliseconds=_milliseconds(self._waited or 0),
            outcome=outcome,
        )


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)
