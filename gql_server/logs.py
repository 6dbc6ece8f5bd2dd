"""Structured log lines on standard error."""

import logging
import sys
from typing import Any

import structlog


def configure(log_format: str, log_level: str = "info") -> None:
    """Send structlog's lines, and those of the standard library, to standard error as text or JSON.

    Args:
        log_format: console or json.
        log_level: Of our own lines the least to send; of libraries' debug lines there are too many.
    """
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
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
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


def _is_no_handshake(record: logging.LogRecord) -> bool:
    return '"WebSocket %s"' not in str(record.msg)
