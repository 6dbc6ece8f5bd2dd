"""Structured log lines on standard error."""

import io
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

from gql_server.telemetry.plain_text import plain_lines

SECONDS = 10
MAX_LINES = 1_000
MAX_WARNINGS = 100
MAX_STACKS = 10
"""The limit of one event's lines in that time; it is lower for warnings, errors and stacks."""
MAX_EVENTS = 1_000
"""The limit of events that are counted separately."""


def configure(log_format: str, log_level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog's lines, and those of the standard library, somewhere as text or JSON.

    Args:
        log_format: console or json.
        log_level: Of our own lines the least to send; of libraries' debug lines there are too many.
        stream: Where to; standard error if None.
    """
    stream = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_plain_traceback)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(FewAlike())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _plain_texts, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    level = logging.getLevelNamesMapping()[log_level.upper()]
    root.setLevel(max(level, logging.INFO))
    logging.getLogger("gql_server").setLevel(level)
    # uvicorn's line of a WebSocket has its whole address, in which somebody may have put the token.
    logging.getLogger("uvicorn.error").addFilter(_is_no_handshake)
    for name in ("alembic", "uvicorn.access", "aiosqlite", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _plain_texts(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Take what would act on a terminal out of a line: names in it may be those of files."""
    return {key: plain_lines(value) if isinstance(value, str) else value for key, value in event.items()}


def _plain_traceback(stream: TextIO, exc_info: Any) -> None:
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write(plain_lines(written.getvalue()))


class FewAlike(logging.Filter):
    """Lets so many lines of an event pass in a while, and says in a later one how many it has left out.

    Whoever reaches the port can make the server write lines, some of them with a long stack.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line passes; it gets the number of lines that were dropped before it."""
        event = record.msg.get("event") if isinstance(record.msg, dict) else record.msg
        seen = self._of((record.name, record.levelno, str(event)))
        seen.count += 1
        if seen.count > _most(record):
            seen.left_out += 1
            return False
        if seen.left_out:
            _say(record, seen.left_out)
            seen.left_out = 0
        return True

    def _of(self, key: Hashable) -> "_Seen":
        now = self._clock()
        seen = self._seen.setdefault(key, _Seen(now))
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_EVENTS:
            self._seen.popitem(last=False)
        if now - seen.since >= SECONDS:
            seen.since, seen.count = now, 0
        return seen


@dataclass
class _Seen:
    since: float
    count: int = 0
    left_out: int = 0


def _most(record: logging.LogRecord) -> int:
    has_stack = bool(record.exc_info) or (isinstance(record.msg, dict) and "exc_info" in record.msg)
    if has_stack:
        return MAX_STACKS
    return MAX_WARNINGS if record.levelno >= logging.WARNING else MAX_LINES


def _say(record: logging.LogRecord, left_out: int) -> None:
    if isinstance(record.msg, dict):
        record.msg = {**record.msg, "alike_left_out": left_out}
    else:
        record.msg = f"{record.msg} ({left_out} like this left out)"


def _is_no_handshake(record: logging.LogRecord) -> bool:
    return '"WebSocket %s"' not in str(record.msg)
