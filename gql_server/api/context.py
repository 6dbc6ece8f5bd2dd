"""The context of resolvers: the server's parts, and loaders that live as long as one operation."""

import copy
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

import strawberry
from strawberry.extensions import SchemaExtension

from gql_server.api.loaders import Loaders

if TYPE_CHECKING:
    from gql_server.services.app_context import AppContext
    from models import Job


event_id: ContextVar[str] = ContextVar("event_id", default="")
"""The ID of a subscription's newest event, after which a client can resume."""

COMPLETE = "complete"
"""The ID of a subscription's end."""


class Context:
    """The context of an HTTP request or of a whole socket; its operations each work with a copy."""

    def __init__(self, server: "AppContext", *, streaming: bool = True, authenticated: bool = True) -> None:
        self.server = server
        self.streaming = streaming
        """Whether the transport can send more than one result."""
        self.authenticated = authenticated
        """Whether the token has been brought; a socket's connection_init may still bring it."""
        self.admit: Callable[[], None] = lambda: None
        """Notes that the connection has shown the token."""
        self.address = ""
        """Where the connection comes from."""
        self.client = object()
        """The identity of the socket or request, shared by its operations."""
        self.cost = 0
        """What the operation is estimated to cost, once it is known."""
        self.executing = False
        """Whether the operation has been found valid, so that its errors are no longer the document's."""
        self.refusal: str | None = None
        """The ErrorCode of what was refused in the operation's data, where that is no error."""
        self.loaders = Loaders(server)
        self.snapshot_key: Hashable = None
        """Names the event that a subscription is at, and the state of all that may be shown with it.

        None where nobody else is given it. What an operation may see does not depend on whose it is.
        """
        self.last_event_id: str | None = None
        """The ID of the last event that a reconnecting client of server-sent events has received."""
        self.connection_params: dict[str, object] | None = None
        """The payload of a socket's connection_init; Strawberry sets it."""

    def for_operation(self) -> "Context":
        """Return a copy with loaders of its own: operations on one socket must not share what they read."""
        context = copy.copy(self)
        context.renew_loaders()
        return context

    def renew_loaders(self, job: "Job | None" = None) -> None:
        """Forget what has been read, but for a job: a subscription does so before each event."""
        self.loaders = Loaders(self.server, job)


Info = strawberry.Info[Context, None]


class OperationContext(SchemaExtension):
    """Gives every operation a context of its own, because Strawberry makes only one per socket."""

    def on_operation(self) -> Iterator[None]:
        """Put the copy in the place of the connection's context."""
        self.execution_context.context = self.execution_context.context.for_operation()
        yield

    def on_execute(self) -> Iterator[None]:
        """Note that the operation is valid."""
        self.execution_context.context.executing = True
        yield
