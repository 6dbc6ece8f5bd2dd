"""The log of a real server, as JSON and for people."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from gql_server.telemetry import logs
from tests.support.server_process import server_process

MUTATION = 'mutation Tidy { deleteSae(id: "sae_0") { __typename } }'


def lines_of(artifact_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (artifact_dir / "server.log").read_text().splitlines()]


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Take back what a test sets up for the whole process."""
    before, root, ours = structlog.get_config(), logging.getLogger(), logging.getLogger("gql_server")
    handlers, levels = root.handlers, (root.level, ours.level)
    yield
    structlog.configure(**before)
    root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_each_operations_line_carries_its_request_as_json(tmp_path: Path) -> None:
    with server_process(tmp_path, LOG_FORMAT="json", WARM_UP="false") as server:
        body = {"query": MUTATION}
        answers = [httpx.post(f"{server.url}/graphql", json=body) for _ in range(2)]
        httpx.post(f"{server.url}/graphql", json={"query": "{ __typename }"})
        url = server.url.replace("http", "ws") + "/graphql"
        with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
            socket.send('{"type": "connection_init"}')
            socket.recv()
            for id in ("1", "2"):
                socket.send(json.dumps({"id": id, "type": "subscribe", "payload": body}))
                assert json.loads(socket.recv())["type"] == "next"
                assert json.loads(socket.recv())["type"] == "complete"
    lines = lines_of(tmp_path)
    told = [line for line in lines if line["event"] == "operation"]
    assert [line["transport"] for line in told] == ["http", "http", "websocket", "websocket"]
    assert [line["request"] for line in told[:2]] == [answer.headers["X-Request-Id"] for answer in answers]
    assert len({line["request"] for line in told}) == 4
    assert "socket" not in told[0] and told[2]["socket"] == told[3]["socket"]
    assert {line["outcome"] for line in told} == {"NOT_FOUND"}
    (started,) = [line for line in lines if line["event"] == "server started"]
    assert "request" not in started


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.usefixtures("logging_as_it_was")
def test_debug_lines_are_written_only_where_asked_for(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in ("info", "debug"):
        logs.configure(log_format, level)
        structlog.get_logger("gql_server.somewhere").debug("a detail")
        structlog.get_logger("gql_server.somewhere").info("a fact")
        structlog.get_logger("a_library").debug("never this")
    written = capsys.readouterr().err
    assert written.count("a fact") == 2
    assert written.count("a detail") == 1
    assert "never this" not in written


def record(event: str, level: int = logging.INFO, stack: bool = False) -> logging.LogRecord:
    """Return a line as structlog hands it to the standard library."""
    message: Any = {"event": event, **({"exc_info": ValueError()} if stack else {})}
    return logging.LogRecord("gql_server.x", level, "", 0, message, None, None)


@pytest.mark.parametrize(
    ("level", "stack", "most"),
    [
        (logging.INFO, False, logs.MAX_LINES),
        (logging.WARNING, False, logs.MAX_WARNINGS),
        (logging.ERROR, True, logs.MAX_STACKS),
    ],
)
def test_of_an_event_so_many_lines_are_written_and_the_rest_counted(
    level: int, stack: bool, most: int
) -> None:
    seconds = 0.0
    few = logs.FewAlike(lambda: seconds)
    assert sum(few.filter(record("a", level, stack)) for _ in range(most + 7)) == most
    assert few.filter(record("b", level, stack)), "another event is not left out"
    seconds = logs.SECONDS
    for left_out in (7, None):
        later: Any = record("a", level, stack)
        assert few.filter(later) and later.msg.get("alike_left_out") == left_out


def test_a_librarys_line_says_so_in_its_text() -> None:
    seconds = 0.0
    few = logs.FewAlike(lambda: seconds)

    def line(number: int) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "bad %s", (number,), None)

    assert sum(few.filter(line(number)) for number in range(logs.MAX_WARNINGS + 2)) == logs.MAX_WARNINGS
    seconds = logs.SECONDS
    later = line(1)
    assert few.filter(later) and later.getMessage() == "bad 1 (2 like this left out)"
