"""What every use case needs, put together once by app.py."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gql_server.database.database import Database
from gql_server.services.single_flight import Flights
from gql_server.jobs.notifier import Bell
from gql_server.jobs.downloads import Downloads
from gql_server.jobs.executor import Executor
from gql_server.jobs.supervisor import Supervisor
from gql_server.jobs.event_hub import Tails
from gql_server.limits.message_budget import OpenMessages
from gql_server.processes.file_threads import Places
from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.processes.reader_pool import Readers
from gql_server.services.in_use import InUse
from gql_server.settings import Settings
from gql_server.limits.subscription_budget import Subscriptions
from gql_server.telemetry.telemetry import Telemetry
from gql_server.limits.fair_turns import OperationTurns
from models import Job


@dataclass(frozen=True)
class Server:
    """The running server's parts."""

    settings: Settings
    database: Database
    executor: Executor
    supervisor: Supervisor
    bell: Bell
    readers: Readers
    downloads: Downloads
    telemetry: Telemetry = field(default_factory=Telemetry)
    places: Places = field(default_factory=Places)
    in_use: InUse = field(default_factory=InUse)
    answers: Flights[Any] = field(default_factory=Flights)
    """What subscribers who ask the same at the same moment are being answered."""
    changes: Flights[list[Job]] = field(default_factory=Flights)
    """Jobs that have changed, while they are read for whoever watches all of them."""
    unfinished: Flights[tuple[int, list[Job]]] = field(default_factory=Flights)
    """Those that have not ended, while they are read for whoever begins to watch."""

    identities: Flights[LanguageModelProvenance] = field(default_factory=Flights)
    """What language models are, while their files are read for whoever asks."""
    operation_turns: OperationTurns = field(default_factory=OperationTurns)
    open_messages: OpenMessages = field(default_factory=OpenMessages)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    """Those that are open, and what they cost."""

    @cached_property
    def tails(self) -> Tails:
        """The newest events of the jobs that are watched."""
        return Tails(self.database, self.bell)
