"""Metrics of what clients ask for: HTTP requests, WebSockets, GraphQL operations."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gql_server.telemetry.names import PREFIX, REQUEST_SECONDS


class HttpMetrics:
    """Requests over HTTP, and WebSockets."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests",
            "Requests over HTTP that were answered.",
            ("method", "route", "status"),
            namespace=PREFIX,
            registry=registry,
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Time until the answer to a request over HTTP began.",
            ("method", "route"),
            namespace=PREFIX,
            registry=registry,
            buckets=REQUEST_SECONDS,
        )
        self._sockets = Gauge(
            "websockets_open", "WebSockets that are open.", namespace=PREFIX, registry=registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose answer has begun."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def socket_opened(self) -> None:
        """Count a WebSocket that was accepted."""
        self._sockets.inc()

    def socket_closed(self) -> None:
        """Count it no more."""
        self._sockets.dec()


class GraphQLMetrics:
    """GraphQL operations, whatever they came over."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "graphql_operations",
            "GraphQL operations that have ended.",
            ("type", "outcome", "transport"),
            namespace=PREFIX,
            registry=registry,
        )
        self._seconds = Histogram(
            "graphql_operation_duration_seconds",
            "Time that a query or a mutation took; a subscription lasts as long as its client likes.",
            ("type",),
            namespace=PREFIX,
            registry=registry,
            buckets=REQUEST_SECONDS,
        )
        self._in_progress = Gauge(
            "graphql_operations_in_progress",
            "GraphQL operations that are being executed.",
            ("type",),
            namespace=PREFIX,
            registry=registry,
        )
        self._subscriptions = Gauge(
            "graphql_subscriptions",
            "Subscriptions that are under way.",
            ("field",),
            namespace=PREFIX,
            registry=registry,
        )

    @contextmanager
    def executing(self, type: str, field: str | None) -> Iterator[None]:
        """Count an operation as under way while the block runs; of a subscription, its field as well."""
        gauges = [self._in_progress.labels(type)]
        if type == "subscription" and field is not None:
            gauges.append(self._subscriptions.labels(field))
        for gauge in gauges:
            gauge.inc()
        try:
            yield
        finally:
            for gauge in gauges:
                gauge.dec()

    def ended(self, type: str, outcome: str, transport: str, seconds: float) -> None:
        """Count an operation that has ended."""
        self._ended.labels(type, outcome, transport).inc()
        if type != "subscription":
            self._seconds.labels(type).observe(seconds)
