"""Spans by OpenTelemetry, sent to a collector over OTLP/HTTP; without one they have no effect."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bind_contextvars, bound_contextvars

from gql_server import __version__
from gql_server.telemetry.outcomes import FAILURES, outcome_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Attribute = str | bool | int | float | None | list[str]
"""The value of an attribute of a span; None is left out."""
Attributes = Mapping[str, Attribute]
NONE: Attributes = {}

TRACES_PATH = "/v1/traces"
TRACE = "trace"
"""The name of a trace's ID in log lines."""
MAX_CAUSES = 1000
"""Waiting jobs whose launching span is remembered; the oldest are forgotten first."""
MISSING = "GQL_SERVER_OTLP_ENDPOINT is set, but there is no OpenTelemetry: pip install 'gql-server[otel]'."


def prefixed(fields: Attributes) -> dict[str, Attribute]:
    """Return a log line's fields as attributes, told from OpenTelemetry's own by their names."""
    return {f"gql_server.{name}": value for name, value in fields.items()}


class Span:
    """A piece of work that takes time."""

    def __init__(self, span: trace.Span = trace.INVALID_SPAN) -> None:
        self._span = span

    def name(self, name: str) -> None:
        """Give it another name, now that more is known."""
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(_without_none(attributes))

    def conclude(self, outcome: str) -> None:
        """Add the outcome; a failure is marked as one."""
        self.note(prefixed({"outcome": outcome}))
        if outcome in FAILURES:
            self._span.set_status(trace.StatusCode.ERROR, outcome)

    def end(self) -> None:
        """End it."""
        self._span.end()


class Tracer:
    """Starts spans and sends them in the background; a collector that is away harms nobody.

    The current span is the parent of what is started after it in the same task.
    """

    def __init__(self, otlp_endpoint: str | None = None) -> None:
        """Send spans to a collector, if there is one.

        Raises:
            ModuleNotFoundError: What sends them is not installed.
        """
        self._provider = None if otlp_endpoint is None else _provider(otlp_endpoint)
        provider = self._provider or trace.NoOpTracerProvider()
        self._tracer = provider.get_tracer("gql_server", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._causes: OrderedDict[str, trace.SpanContext] = OrderedDict()

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes = NONE,
        headers: Mapping[str, str] | None = None,
        cause: str | None = None,
    ) -> Iterator[Span]:
        """Give a span that is current while the block runs.

        Args:
            name: Its name.
            attributes: What is known of it from the start.
            headers: A request's; the span is a part of the trace that they name, if they do.
            cause: What ``remember`` was given when the work was asked for; the span links to that place.
        """
        parent = self._extracted(headers)
        kind = trace.SpanKind.INTERNAL if headers is None else trace.SpanKind.SERVER
        asked_for = self._causes.pop(cause, None) if cause is not None else None
        links = [trace.Link(asked_for)] if asked_for is not None else []
        started = self._tracer.start_span(
            name, parent, kind, attributes=_without_none(attributes), links=links
        )
        span = Span(started)
        token = context.attach(trace.set_span_in_context(started, parent))
        try:
            with bound_contextvars(**self._log_fields(started)):
                yield span
        except BaseException as error:
            span.conclude(outcome_of(error))
            raise
        finally:
            context.detach(token)
            span.end()

    def begin(self, name: str) -> Span:
        """Start a span that is current to the end of this task."""
        # Never detached: an operation may end in another task than it began in.
        started = self._tracer.start_span(name)
        context.attach(trace.set_span_in_context(started))
        bind_contextvars(**self._log_fields(started))
        return Span(started)

    def start(self, name: str, attributes: Attributes = NONE) -> Span:
        """Start a span that does not become current."""
        return Span(self._tracer.start_span(name, attributes=_without_none(attributes)))

    def adopt(self, headers: Mapping[str, str]) -> None:
        """Make what this task and its children start a part of the trace that a request's headers name."""
        if (named := self._extracted(headers)) is not None:
            context.attach(named)

    def _extracted(self, headers: Mapping[str, str] | None) -> context.Context | None:
        """Return the context of the trace that headers name; without a collector nobody asks.

        The propagator warns of headers that are malformed, in the sender's words.
        """
        return None if headers is None or self._provider is None else self._propagator.extract(headers)

    def remember(self, cause: str) -> None:
        """Keep in mind that the current span has asked for something that is done later."""
        self._causes[cause] = trace.get_current_span().get_span_context()
        if len(self._causes) > MAX_CAUSES:
            self._causes.popitem(last=False)

    def close(self, seconds: float) -> None:
        """Send what has ended. A collector that does not answer in time is left alone with its thread."""
        if self._provider is not None:
            closing = threading.Thread(target=self._provider.shutdown, daemon=True)
            closing.start()
            closing.join(seconds)

    def _log_fields(self, span: trace.Span) -> dict[str, str]:
        """Return the fields of log lines inside a span: none where its trace is shown nowhere."""
        if self._provider is None:
            return {}
        return {TRACE: trace.format_trace_id(span.get_span_context().trace_id)}


def _provider(otlp_endpoint: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
    url = otlp_endpoint.rstrip("/")
    url = url if url.endswith(TRACES_PATH) else url + TRACES_PATH
    resource = Resource.create({"service.name": "gql-server", "service.version": __version__})
    # Ended by close(): at the interpreter's exit it would wait for a collector that is away.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return provider


def _without_none(attributes: Attributes) -> dict[str, str | bool | int | float | list[str]]:
    return {name: value for name, value in attributes.items() if value is not None}
