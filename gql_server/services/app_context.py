"""What every use case needs, put together once by app.py."""

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
from gql_server.limits.fair_turns import OperationTurns
from gql_server.limits.message_budget import OpenMessages
from gql_server.limits.subscription_budget import Subscriptions
from gql_server.processes.file_threads import Places
from gql_server.processes.reader_pool import Readers
from gql_server.services.in_use import InUse
from gql_server.services.single_flight import SingleFlight
from gql_server.settings import Settings
from gql_server.telemetry.telemetry import Telemetry
from models import Job


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
    places: Places = field(default_factory=Places)
    in_use: InUse = field(default_factory=InUse)
    answers: SingleFlight[Any] = field(default_factory=SingleFlight)
    """What subscribers who ask the same at the same moment are being answered."""
    changes: SingleFlight[list[Job]] = field(default_factory=SingleFlight)
    """Jobs that have changed, while they are read for whoever watches all of them."""
    unfinished: SingleFlight[tuple[int, list[Job]]] = field(default_factory=SingleFlight)
    """Those that have not ended, while they are read for whoever begins to watch."""

    identities: SingleFlight[LanguageModelProvenance | None] = field(default_factory=SingleFlight)
    """What language models are, while their files are read for whoever asks."""
    operation_turns: OperationTurns = field(default_factory=OperationTurns)
    open_messages: OpenMessages = field(default_factory=OpenMessages)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    """Those that are open, and what they cost."""

    @cached_property
    def event_hub(self) -> JobEventHub:
        """The newest events of the jobs that are watched."""
        return JobEventHub(self.database, self.notifier)
