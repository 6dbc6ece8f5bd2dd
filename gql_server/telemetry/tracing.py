"""Spans, as the rest of the server sees them; without a collector they cost next to nothing."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Attribute = str | bool | int | float | None | list[str]
"""What a span can be noted with; None is left out."""
Attributes = Mapping[str, Attribute]
NONE: Attributes = {}


def prefixed(fields: Attributes) -> dict[str, Attribute]:
    """Return a log line's fields as attributes, told from OpenTelemetry's own by their names."""
    return {f"gql_server.{name}": value for name, value in fields.items()}


class Span(Protocol):
    """A piece of work that takes time."""

    def name(self, name: str) -> None:
        """Give it another name, now that more is known."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def conclude(self, outcome: str) -> None:
        """Say what became of it; what is a failure is marked as one."""

    def end(self) -> None:
        """End it."""


class Tracer(Protocol):
    """Starts spans. The current one is the parent of what is started after it in the same task."""

    def span(
        self,
        name: str,
        attributes: Attributes = NONE,
        headers: Mapping[str, str] | None = None,
        cause: str | None = None,
    ) -> AbstractContextManager[Span]:
        """Give a span that is current while the block runs.

        Args:
            name: Its name.
            attributes: What is known of it from the start.
            headers: A request's; the span is a part of the trace that they name, if they do.
            cause: What ``remember`` was given when the work was asked for; the span links to that place.
        """

    def begin(self, name: str, attributes: Attributes = NONE) -> Span:
        """Start a span that is current to the end of this task."""

    def start(self, name: str, attributes: Attributes = NONE) -> Span:
        """Start a span that does not become current."""

    def adopt(self, headers: Mapping[str, str]) -> None:
        """Make what this task and its children start a part of the trace that a request's headers name."""

    def remember(self, cause: str) -> None:
        """Keep in mind that the current span has asked for something that is done later."""

    def close(self, seconds: float) -> None:
        """Send what has ended, for so long at most."""


class NoSpan:
    """The span of a server that sends none."""

    def name(self, name: str) -> None:
        """Do nothing."""

    def note(self, attributes: Attributes) -> None:
        """Do nothing."""

    def conclude(self, outcome: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


_NOTHING = NoSpan()


class NoTracer:
    """The tracer of a server that has nowhere to send spans to."""

    def span(
        self,
        name: str,
        attributes: Attributes = NONE,
        headers: Mapping[str, str] | None = None,
        cause: str | None = None,
    ) -> AbstractContextManager[Span]:
        """Give a span of no effect."""
        return nullcontext(_NOTHING)

    def begin(self, name: str, attributes: Attributes = NONE) -> Span:
        """Return a span of no effect."""
        return _NOTHING

    def start(self, name: str, attributes: Attributes = NONE) -> Span:
        """Return a span of no effect."""
        return _NOTHING

    def adopt(self, headers: Mapping[str, str]) -> None:
        """Do nothing."""

    def remember(self, cause: str) -> None:
        """Do nothing."""

    def close(self, seconds: float) -> None:
        """Do nothing."""
