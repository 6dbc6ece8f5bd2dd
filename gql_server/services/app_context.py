"""The parts of the running server, which every use case gets; app.py makes them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.database.database import Database
from gql_server.jobs.downloads import Downloads
from gql_server.jobs.event_hub import JobEventHub
from gql_server.jobs.executor import Executor
from gql_server.jobs.notifier import Notifier
from gql_server.jobs.supervisor import Supervisor
from gql_server.limits.bounded_turns import BoundedTurns
from gql_server.limits.fair_turns import OperationTurns
from gql_server.limits.message_budget import OpenMessages
from gql_server.limits.subscription_budget import Subscriptions
from gql_server.processes.file_threads import FileThreads
from gql_server.processes.reader_pool import Readers
from gql_server.services.in_use import InUse
from gql_server.services.server_status import ServerMonitor
from gql_server.services.single_flight import SingleFlight
from gql_server.settings import Settings
from gql_server.telemetry.telemetry import Telemetry
from models import Job

SEARCHES_AT_ONCE = 2
"""They go over all names, and leave most connections of the database to others."""
MAX_WAITING_SEARCHES = 30


def _searches() -> BoundedTurns:
    refusal = f"{MAX_WAITING_SEARCHES} searches wait already; try again in a moment."
    return BoundedTurns(SEARCHES_AT_ONCE, MAX_WAITING_SEARCHES, refusal)


@dataclass(frozen=True)
class AppContext:
    """The running server's parts."""

    settings: Settings
    database: Database
    executor: Executor
    supervisor: Supervisor
    notifier: Notifier
    readers: Readers
    downloads: Downloads
    telemetry: Telemetry = field(default_factory=Telemetry)
    file_threads: FileThreads = field(default_factory=FileThreads)
    in_use: InUse = field(default_factory=InUse)
    answers: SingleFlight[Any] = field(default_factory=SingleFlight)
    """Executions for events, shared by subscribers who ask the same."""
    changes: SingleFlight[list[Job]] = field(default_factory=SingleFlight)
    """Reads of changed jobs, shared by who watches all jobs."""
    unfinished: SingleFlight[tuple[int, list[Job]]] = field(default_factory=SingleFlight)
    """Reads of unfinished jobs, shared by who begins to watch all jobs."""

    identities: SingleFlight[LanguageModelProvenance | None] = field(default_factory=SingleFlight)
    """Hashing of language models' files, shared by who asks for it."""
    operation_turns: OperationTurns = field(default_factory=OperationTurns)
    monitor: ServerMonitor = field(default_factory=ServerMonitor)
    """How the server is, for who asks."""
    searches: BoundedTurns = field(default_factory=_searches)
    """Turns of searches over all names."""
    open_messages: OpenMessages = field(default_factory=OpenMessages)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    """The open subscriptions and their costs."""

    @cached_property
    def event_hub(self) -> JobEventHub:
        """The newest events of the jobs that are watched."""
        return JobEventHub(self.database, self.notifier)
