"""What jobs, services and the API are handed to tell of themselves."""

from dataclasses import dataclass, field

from gql_server.telemetry.metrics import Metrics
from gql_server.telemetry.tracing import NoTracer, Tracer

MISSING = "GQL_SERVER_OTLP_ENDPOINT is set, but there is no OpenTelemetry: pip install 'gql-server[otel]'."


@dataclass(frozen=True)
class Telemetry:
    """A server's metrics and traces."""

    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = field(default_factory=NoTracer)

    @classmethod
    def to(cls, otlp_endpoint: str | None) -> "Telemetry":
        """Return telemetry whose traces go to a collector, if there is one.

        Raises:
            ModuleNotFoundError: What sends them is not installed.
        """
        if otlp_endpoint is None:
            return cls()
        try:
            from gql_server.telemetry.otel import OtelTracer
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(MISSING) from error
        return cls(tracer=OtelTracer(otlp_endpoint))
