"""A reference for each request, which all log lines that are written for it carry."""

import secrets
from contextvars import ContextVar

from structlog.contextvars import bind_contextvars

REQUEST = "request"
"""The name of the reference in log lines."""
TRANSPORT: ContextVar[str] = ContextVar("transport", default="internal")
"""What the operation at hand came over: http, sse or websocket."""


def new_reference() -> str:
    """Return a reference that no other request has."""
    return secrets.token_hex(8)


def bind_new_reference() -> None:
    """Give this task a reference of its own, to its end: for an operation on a socket, which has a task."""
    bind_contextvars(**{REQUEST: new_reference()})
