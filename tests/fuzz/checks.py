"""What no answer, no log and no process may show."""

import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.sending import Answer
from tests.support.server_process import RunningServer

REPOSITORY = Path(__file__).parents[2]
OWN_PATHS = ("source", "languagemodelpaths")
"""Fields that show where on the machine something is, by design; in lower case."""

INSIDES = re.compile(
    r"Traceback \(most|File \"|\.py\b|site-packages| object at 0x|sqlite3?\.|sqlalchemy|aiosqlite"
    r"|IntegrityError|SELECT .* FROM|INSERT INTO|UPDATE \w+ SET"
    r"|asyncio\.|torch\.|strawberry\.|graphql\.|pydantic"
)
EXCEPTIONS = re.compile(
    r"\b(?!FieldError)(?:[A-Z][a-z]+)+(?:Error|Exception)\b|\bErrno\b|\bNoneType\b"
    r"|maximum recursion|int_max_str|has no attribute|positional argument|not subscriptable|' codec "
)
"""Of messages alone: texts of a dataset may have such words."""
MESSAGES = ("message", "error")
REFUSALS = {
    "InvalidInput": "INVALID_INPUT",
    "NotFound": "NOT_FOUND",
    "Conflict": "CONFLICT",
    "QueueFull": "QUEUE_FULL",
}
LONGEST = 300


def problems(answer: Answer, server: RunningServer) -> Iterator[str]:
    """Give what is wrong with an answer."""
    if answer.trouble:
        yield answer.trouble
    if answer.status is not None and answer.status >= 500:
        yield f"status {answer.status}"
    if answer.close is not None and answer.close in (1002, 1011, 1014):
        yield f"the WebSocket was closed with {answer.close}"
    for text in answer.texts:
        try:
            said = json.loads(text)
        except ValueError:
            yield f"no JSON: {text[:LONGEST]}"
            continue
        if answer.status is not None and not ("data" in said or "errors" in said):
            yield f"neither data nor errors: {text[:LONGEST]}"
        yield from _problems_of(said, "", _secrets(server))


def outcome(answer: Answer) -> str:
    """Return in a few words what came of a request."""
    if answer.trouble:
        return "trouble"
    if answer.status is not None and answer.status != 200:
        return f"HTTP {answer.status}"
    if answer.close is not None and answer.close >= 4000:
        return f"closed with {answer.close}"
    codes = {code for text in answer.texts for code in _codes(_loads(text))}
    return f"refused {min(codes)}" if codes else "answered"


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _codes(said: Any) -> Iterator[str]:
    """Give the codes of errors and refusals; of an error that has none, that GraphQL's own rules have it."""
    match said:
        case {"errors": [*errors]}:
            yield from (_code_of_error(error) for error in errors)
        case {"type": "error", "payload": [*errors]}:
            yield from (_code_of_error(error) for error in errors)
    match said:
        case {"__typename": str(name)} if name in REFUSALS:
            yield str(said.get("code") or REFUSALS[name])
        case dict():
            yield from (code for item in said.values() for code in _codes(item))
        case list():
            yield from (code for item in said for code in _codes(item))


def _code_of_error(error: Any) -> str:
    return str((error.get("extensions") or {}).get("code") or "by GraphQL's own rules")


def _problems_of(said: Any, key: str, secrets: tuple[str, ...]) -> Iterator[str]:
    match said:
        case str():
            yield from _leaks(said, key, secrets)
        case dict():
            if said.get("code") == "INTERNAL":
                yield f"INTERNAL: {said}"
            for name, item in said.items():
                yield from _problems_of(item, name, secrets)
        case list():
            for item in said:
                yield from _problems_of(item, key, secrets)


def _leaks(text: str, key: str, secrets: tuple[str, ...]) -> Iterator[str]:
    # An alias has the field's name at its end, or before its type's.
    parts = key.split("_")
    field = next((part for part in reversed(parts) if not part[:1].isupper()), parts[-1]).lower()
    if field not in OWN_PATHS and any(secret in text for secret in secrets):
        yield f"a path of the machine in {key}: {text[:LONGEST]}"
    if found := INSIDES.search(text):
        yield f"the insides ({found[0]}) in {key}: {text[:LONGEST]}"
    elif any(word in field for word in MESSAGES) and (found := EXCEPTIONS.search(text)):
        yield f"an exception ({found[0]}) in {key}: {text[:LONGEST]}"


def _secrets(server: RunningServer) -> tuple[str, ...]:
    site = sysconfig.get_path("purelib")
    return (str(server.artifact_dir.parent), str(REPOSITORY), sys.prefix, sys.base_prefix, site)


def log_problems(log: Path) -> Iterator[str]:
    """Give the lines of a server's log that are errors, and stacks that are outside of any line."""
    before = ""
    for line in log.read_text(errors="replace").splitlines():
        said = _loads(line)
        if isinstance(said, dict) and said.get("level") in ("error", "critical"):
            yield f"in the log: {said.get('event')} {str(said.get('exception', ''))[-1500:]}"
        # graphql-core leaves coroutines behind when a field fails; what Python says of that is no error.
        elif "Traceback" in line and not before.startswith("Exception ignored in: <coroutine"):
            yield f"in the log: {line[:LONGEST]}"
        before = line


def warnings_in(log: Path) -> int:
    """Return how many warnings a server's log has."""
    said = [_loads(line) for line in log.read_text(errors="replace").splitlines()]
    return sum(isinstance(one, dict) and one.get("level") == "warning" for one in said)
