"""Whole requests: an operation, how it is sent, and what is odd about the sending."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field as defaulted
from enum import StrEnum
from typing import Any

from graphql import DocumentNode, FieldNode, OperationDefinitionNode, OperationType, print_ast

from tests.fuzz.documents import documents, schema
from tests.fuzz.dressing import Dresser
from tests.fuzz.oddities import FRAMES, HEADERS, odd_bodies, odd_members, odd_text
from tests.fuzz.values import FilePart

PORTION = 250
"""Operations that are drawn at a time."""

HOSTILITIES = (None, None, 0.0, 0.0, 0.0, 0.0, 0.08, 0.08, 0.08, 0.3, 0.6)
"""Shares of hostile values; None leaves the values as hypothesis-graphql has drawn them."""


class Way(StrEnum):
    """How an operation reaches the server."""

    POST = "POST"
    GET = "GET"
    MULTIPART = "multipart"
    EVENTS = "event stream"
    SOCKET = "WebSocket"
    FRAMES = "odd frames"


@dataclass
class Case:
    """A request, with stand-ins for what the server has; ``content`` is sent in the members' place."""

    number: int
    way: Way
    field: str
    """Its first root field, for people."""
    members: dict[str, Any]
    headers: dict[str, str] = defaulted(default_factory=dict)
    files: dict[str, FilePart] = defaulted(default_factory=dict)
    content: bytes | None = None
    frames: list[str] = defaulted(default_factory=list)
    hangs_up: bool = False
    """Whether the client of a stream goes without a word."""


def cases(count: int, seed: int) -> Iterator[Case]:
    """Give the requests of a seed; those of a larger count begin with the same ones."""
    for start in range(0, count, PORTION):
        drawn = documents(PORTION, seed * 1_000_003 + start)
        for place, document in enumerate(drawn[: count - start]):
            yield _case(start + place, document, random.Random(f"{seed} {start + place}"))


def _case(number: int, document: DocumentNode, dice: random.Random) -> Case:
    hostility = dice.choice(HOSTILITIES)
    dressed = Dresser(schema(), dice, hostility or 0.0, keeps=hostility is None).dress(document)
    operation = dressed.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    members: dict[str, Any] = {"query": odd_text(print_ast(dressed.document), dice)}
    if dressed.variables or dice.random() < 0.2:
        members["variables"] = dressed.variables
    if operation.name and dice.random() < 0.5:
        members["operationName"] = operation.name.value
    first = operation.selection_set.selections[0]
    name = first.name.value if isinstance(first, FieldNode) else "…"
    case = Case(
        number, _way(operation.operation, dice, bool(dressed.files)), name, members, files=dressed.files
    )
    return _with_oddities(case, dice)


def _way(operation: OperationType, dice: random.Random, has_files: bool) -> Way:
    if has_files:
        return Way.MULTIPART
    if operation == OperationType.SUBSCRIPTION:
        return dice.choices((Way.SOCKET, Way.EVENTS, Way.POST), (6, 3, 1))[0]
    if operation == OperationType.MUTATION:
        return dice.choices((Way.POST, Way.GET, Way.SOCKET, Way.EVENTS), (84, 2, 11, 3))[0]
    ways = (Way.POST, Way.GET, Way.SOCKET, Way.EVENTS, Way.MULTIPART, Way.FRAMES)
    return dice.choices(ways, (76, 8, 10, 3, 1, 2))[0]


def _with_oddities(case: Case, dice: random.Random) -> Case:
    case.hangs_up = dice.random() < 0.5
    if case.way == Way.FRAMES:
        case.frames = [dice.choice(FRAMES) for _ in range(dice.randint(1, 6))]
    if dice.random() < 0.04:
        case.members |= dice.choice(odd_members())
    if dice.random() < 0.03:
        case.headers |= dice.choice(HEADERS)
    if case.way == Way.POST and dice.random() < 0.04:
        case.content = dice.choice(odd_bodies(json.dumps(case.members)))
    return case
