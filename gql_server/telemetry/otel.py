"""Spans by OpenTelemetry, sent to a collector over OTLP/HTTP. Imported only where one is configured."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bind_contextvars, bound_contextvars

from gql_server import __version__
from gql_server.telemetry.outcomes import FAILURES, outcome_of
from gql_server.telemetry.tracing import NONE, Attributes, Span, prefixed

TRACES_PATH = "/v1/traces"
TRACE = "trace"
"""The name of a trace's ID in log lines."""
MAX_CAUSES = 1000
"""Jobs that wait, of which it is known who asked; the oldest are forgotten first."""


class OtelSpan:
    """A span of OpenTelemetry's."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    @property
    def trace_id(self) -> str:
        """The ID of its trace, as collectors show it."""
        return trace.format_trace_id(self.span.get_span_context().trace_id)

    def name(self, name: str) -> None:
        """Give it another name."""
        self.span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self.span.set_attributes(_attributes(attributes))

    def conclude(self, outcome: str) -> None:
        """Say what became of it."""
        self.note(prefixed({"outcome": outcome}))
        if outcome in FAILURES:
            self.span.set_status(trace.StatusCode.ERROR, outcome)

    def end(self) -> None:
        """End it."""
        self.span.end()


class OtelTracer:
    """Starts spans and sends them in the background; a collector that is away harms nobody."""

    def __init__(self, endpoint: str) -> None:
        url = endpoint.rstrip("/")
        url = url if url.endswith(TRACES_PATH) else url + TRACES_PATH
        resource = Resource.create({"service.name": "gql-server", "service.version": __version__})
        # Ended by close(): at the interpreter's exit it would wait for a collector that is away.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("gql_server", __version__)
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
        """Give a span that is current while the block runs."""
        parent = self._propagator.extract(headers) if headers is not None else None
        kind = trace.SpanKind.INTERNAL if headers is None else trace.SpanKind.SERVER
        asked_for = self._causes.pop(cause, None) if cause is not None else None
        links = [trace.Link(asked_for)] if asked_for is not None else []
        span = OtelSpan(
            self._tracer.start_span(name, parent, kind, attributes=_attributes(attributes), links=links)
        )
        token = context.attach(trace.set_span_in_context(span.span, parent))
        try:
            with bound_contextvars(**{TRACE: span.trace_id}):
                yield span
        except BaseException as error:
            span.conclude(outcome_of(error))
            raise
        finally:
            context.detach(token)
            span.end()

    def begin(self, name: str, attributes: Attributes = NONE) -> Span:
        """Start a span that is current to the end of this task."""
        # Never detached: an operation may end in another task than it began in.
        span = OtelSpan(self._tracer.start_span(name, attributes=_attributes(attributes)))
        context.attach(trace.set_span_in_context(span.span))
        bind_contextvars(**{TRACE: span.trace_id})
        return span

    def start(self, name: str, attributes: Attributes = NONE) -> Span:
        """Start a span that does not become current."""
        return OtelSpan(self._tracer.start_span(name, attributes=_attributes(attributes)))

    def adopt(self, headers: Mapping[str, str]) -> None:
        """Continue the trace that headers name."""
        context.attach(self._propagator.extract(headers))

    def remember(self, cause: str) -> None:
        """Keep the current span's place in mind."""
        self._causes[cause] = trace.get_current_span().get_span_context()
        if len(self._causes) > MAX_CAUSES:
            self._causes.popitem(last=False)

    def close(self, seconds: float) -> None:
        """Send what has ended. A collector that does not answer is left alone with its thread."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(seconds)


def _attributes(attributes: Attributes) -> dict[str, str | bool | int | float | list[str]]:
    return {name: value for name, value in attributes.items() if value is not None}
