"""Metrics and traces as one object, which jobs, services and the API get."""

from dataclasses import dataclass, field

from gql_server.telemetry.metrics import Metrics
from gql_server.telemetry.tracing import Tracer


@dataclass(frozen=True)
class Telemetry:
    """A server's metrics and traces."""

    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = field(default_factory=Tracer)
