"""Metrics of what is computed: jobs, workers, inference."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gql_server.telemetry.names import JOB_SECONDS, PREFIX, REQUEST_SECONDS
from models.enums import JobKind, JobStatus

JobCount = tuple[JobKind, JobStatus, str, int]
"""How many jobs of a kind and a status there are in a lane."""


class JobMetrics:
    """Jobs as they stand in the database, and as they end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = Gauge(
            "jobs",
            "Jobs in the database.",
            ("kind", "status"),
            namespace=PREFIX,
            registry=registry,
        )
        self._queued = Gauge(
            "jobs_queued", "Jobs that wait for their lane.", ("lane",), namespace=PREFIX, registry=registry
        )
        self._ended = Counter(
            "jobs_ended",
            "Attempts of jobs that have ended since the server started.",
            ("kind", "status"),
            namespace=PREFIX,
            registry=registry,
        )
        self._seconds = Histogram(
            "job_duration_seconds",
            "Time that an attempt of a job took from its start to its end.",
            ("kind", "status"),
            namespace=PREFIX,
            registry=registry,
            buckets=JOB_SECONDS,
        )

    def ended(self, kind: JobKind, status: JobStatus, seconds: float | None) -> None:
        """Count an attempt that has ended; one that never began took no time."""
        self._ended.labels(kind, status).inc()
        if seconds is not None:
            self._seconds.labels(kind, status).observe(seconds)

    def stand(self, counts: Iterable[JobCount], lanes: Iterable[str]) -> None:
        """Set how many jobs there are; of what ``counts`` leaves out there are none."""
        for gauge in [self._counts.labels(kind, status) for kind in JobKind for status in JobStatus]:
            gauge.set(0)
        for lane in lanes:
            self._queued.labels(lane).set(0)
        for kind, status, lane, count in counts:
            self._counts.labels(kind, status).inc(count)
            if status == JobStatus.QUEUED:
                self._queued.labels(lane).inc(count)

    def unknown(self) -> None:
        """Remove the numbers of jobs, because the database could not be read."""
        self._counts.clear()
        self._queued.clear()


class WorkerMetrics:
    """The workers' processes, each named for its lanes: jobs, interactive, interactive+jobs, downloads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge(
            "workers_up",
            "Processes of the worker that run.",
            ("worker",),
            namespace=PREFIX,
            registry=registry,
        )
        self._starts = Counter(
            "worker_starts",
            "Processes that were started for the worker.",
            ("worker",),
            namespace=PREFIX,
            registry=registry,
        )
        self._ends = Counter(
            "worker_ends",
            "Processes of the worker that have ended.",
            ("worker", "reason"),
            namespace=PREFIX,
            registry=registry,
        )

    def started(self, worker: str) -> None:
        """Count a process that runs now."""
        self._starts.labels(worker).inc()
        self._up.labels(worker).inc()

    def ended(self, worker: str, reason: str) -> None:
        """Count a process that has ended."""
        self._ends.labels(worker, reason).inc()
        self._up.labels(worker).dec()


class InferenceMetrics:
    """Top-neuron queries and generations."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge(
            "inference_waiting",
            "Inference requests that wait for the worker.",
            ("kind",),
            namespace=PREFIX,
            registry=registry,
        )
        self._ended = Counter(
            "inference_requests",
            "Inference requests that have ended.",
            ("kind", "outcome"),
            namespace=PREFIX,
            registry=registry,
        )
        self._seconds = Histogram(
            "inference_duration_seconds",
            "Time that an inference request took, with its waiting.",
            ("kind",),
            namespace=PREFIX,
            registry=registry,
            buckets=REQUEST_SECONDS,
        )
        self._waited = Histogram(
            "inference_wait_seconds",
            "Time that an inference request waited for the worker.",
            ("kind",),
            namespace=PREFIX,
            registry=registry,
            buckets=REQUEST_SECONDS,
        )
        self._tokens = Counter(
            "generated_tokens", "Tokens that were generated.", namespace=PREFIX, registry=registry
        )

    def waits(self, kind: str) -> None:
        """Count a request that waits."""
        self._waiting.labels(kind).inc()

    def waited(self, kind: str, seconds: float) -> None:
        """Count a request that no longer waits."""
        self._waiting.labels(kind).dec()
        self._waited.labels(kind).observe(seconds)

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a request that has ended."""
        self._ended.labels(kind, outcome).inc()
        self._seconds.labels(kind).observe(seconds)

    def generated(self) -> None:
        """Count a token."""
        self._tokens.inc()
