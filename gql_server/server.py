"""What every use case needs, put together once by app.py."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gql_server.database import Database
from gql_server.flights import Flights
from gql_server.jobs.bell import Bell
from gql_server.jobs.executor import Executor
from gql_server.jobs.supervisor import Supervisor
from gql_server.jobs.tails import Tails
from gql_server.provenance import LanguageModelProvenance
from gql_server.readers import Readers
from gql_server.services.in_use import InUse
from gql_server.settings import Settings
from gql_server.telemetry.telemetry import Telemetry
from gql_server.turns import Turns
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
    telemetry: Telemetry = field(default_factory=Telemetry)
    in_use: InUse = field(default_factory=InUse)
    answers: Flights[Any] = field(default_factory=Flights)
    """What subscribers who ask the same at the same moment are being answered."""
    changes: Flights[list[Job]] = field(default_factory=Flights)
    """Jobs that have changed, while they are read for whoever watches all of them."""

    identities: Flights[LanguageModelProvenance] = field(default_factory=Flights)
    """What language models are, while their files are read for whoever asks."""
    turns: Turns = field(default_factory=Turns)
    """Of the operations whose documents take long to read."""

    @cached_property
    def tails(self) -> Tails:
        """The newest events of the jobs that are watched."""
        return Tails(self.database, self.bell)
