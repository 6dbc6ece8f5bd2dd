"""The server's metrics, in Prometheus's terms; docs/operations.md lists them."""

import platform

from prometheus_client import CollectorRegistry, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

from gql_server import __version__
from gql_server.telemetry.names import PREFIX
from gql_server.telemetry.request_metrics import GraphQLMetrics, HttpMetrics
from gql_server.telemetry.work_metrics import InferenceMetrics, JobMetrics, WorkerMetrics


class Metrics:
    """Counts what happens. Each server has a registry of its own, and each label a bounded set of values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.http = HttpMetrics(self.registry)
        self.graphql = GraphQLMetrics(self.registry)
        self.jobs = JobMetrics(self.registry)
        self.workers = WorkerMetrics(self.registry)
        self.inference = InferenceMetrics(self.registry)
        build = Info("build", "What runs.", namespace=PREFIX, registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, in a format that ``accept`` names, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
