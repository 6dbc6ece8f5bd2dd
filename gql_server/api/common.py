"""What all nouns share: decorators that describe, scalars, the Node and Error interfaces, refusals."""

import asyncio
import dataclasses
import math
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum, StrEnum
from functools import wraps
from typing import Annotated, Any, NewType, TypeVar, dataclass_transform

import strawberry
import structlog
from graphql import GraphQLError
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.scalar import ScalarDefinition

from gql_server.errors import Refusal

log = structlog.get_logger(__name__)

T = TypeVar("T")

# ------------------------------------------------------------------------------- helpers


# These take the description from the docstring. They are also what mypy can follow: Strawberry's own are
# untyped as soon as they have arguments.


def _description(documented: Any) -> str:
    return " ".join(documented.__doc__.split())


def field(resolver: Callable[..., Any]) -> StrawberryField:
    """Make a method a field."""
    made: StrawberryField = strawberry.field(resolver, description=_description(resolver))
    return made


def mutation(resolver: Callable[..., Any]) -> StrawberryField:
    """Make a method a mutation."""
    made: StrawberryField = strawberry.mutation(
        resolver, description=_description(resolver), extensions=[MutationExtension()]
    )
    return made


def stoppable_mutation(resolver: Callable[..., Any]) -> StrawberryField:
    """Make a method that writes nothing to the database a mutation, which ends where its client goes."""
    made: StrawberryField = strawberry.mutation(
        resolver, description=_description(resolver), extensions=[MutationExtension(to_its_end=False)]
    )
    return made


class MutationExtension(FieldExtension):
    """Lets a mutation see what the ones before it have written, and come to its end once it has begun.

    Where the client goes meanwhile, or time is up, its operation is canceled. In the middle of a transaction
    that would leave the database locked; after its commit, what must follow (waking a lane, say) would not be
    done.
    """

    _running: set[asyncio.Task[Any]] = set()

    def __init__(self, *, to_its_end: bool = True) -> None:
        self._to_its_end = to_its_end

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: Any, info: strawberry.Info[Any, Any], **arguments: Any
    ) -> Any:
        """Resolve with loaders that have read nothing yet, in a task that nobody cancels."""
        info.context.renew_loaders()
        if not self._to_its_end:
            return await next_(source, info, **arguments)
        task: asyncio.Task[Any] = asyncio.ensure_future(next_(source, info, **arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_note_end)
            raise


def _note_end(task: asyncio.Task[Any]) -> None:
    """Log with what a mutation ended whose client has gone, unless it was refused."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, Refusal):
        log.error("mutation of a client that has gone failed", exc_info=error)


def subscription(resolver: Callable[..., Any]) -> StrawberryField:
    """Make a method that is an asynchronous generator a subscription, which costs something while it is open.

    Raises:
        QueueFull: It is one too many.
    """

    @wraps(resolver)
    async def counted(*args: Any, **arguments: Any) -> AsyncIterator[Any]:
        context = arguments["info"].context
        with context.server.subscriptions.open(context.client, context.cost):
            async with closing(resolver(*args, **arguments)) as events:
                async for event in events:
                    yield event

    made: StrawberryField = strawberry.subscription(counted, description=_description(resolver))
    return made


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field, StrawberryField))
def object_type(class_: type[T]) -> type[T]:
    """Make a class an object type."""
    return strawberry.type(class_, description=_description(class_))


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field, StrawberryField))
def interface_type(class_: type[T]) -> type[T]:
    """Make a class an interface."""
    return strawberry.interface(class_, description=_description(class_))


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field, StrawberryField))
def input_type(class_: type[T]) -> type[T]:
    """Make a class an input."""
    return strawberry.input(class_, description=_description(class_))


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field, StrawberryField))
def one_of_input_type(class_: type[T]) -> type[T]:
    """Make a class an input of which exactly one field is given."""
    return strawberry.input(class_, one_of=True, description=_description(class_))


def argument(description: str) -> Any:
    """Describe an argument, inside ``Annotated``."""
    return strawberry.argument(description=description)


def describe_enum(enum: type[Enum], description: str, values: Mapping[str, str]) -> None:
    """Make an enum of the tables a GraphQL enum; the descriptions live here because tables need none."""
    strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values[value.name]


def from_row(type_: Callable[..., T], row: Any, /, **others: Any) -> T:
    """Make an object whose plain fields are named as the row's columns, with ``others`` in place of some."""
    fields: Any = type_
    columns = {
        field.name: getattr(row, field.name)
        for field in dataclasses.fields(fields)
        if field.init and field.name not in others and hasattr(row, field.name)
    }
    return type_(**columns, **others)


def request_of(type_: Callable[..., T], input: Any, /, **others: Any) -> T:
    """Make a service's request, whose fields are named as the input's, with ``others`` in place of some."""
    return type_(**(vars(input) | others))


def finite(number: float | None) -> float | None:
    """Return the number, or None for NaN and infinities, which JSON lacks."""
    return number if number is not None and math.isfinite(number) else None


def finite_number(number: float) -> float:
    """Return a number that JSON has: for an infinity the largest float of its sign, for NaN 0."""
    if math.isnan(number):
        return 0.0
    return max(-sys.float_info.max, min(sys.float_info.max, number))


@asynccontextmanager
async def closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a generator when the block ends, so that what it holds goes with the subscription."""
    try:
        yield iterator
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


# ------------------------------------------------------------------------------- scalars


def _parse_big_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise GraphQLError("BigInt is an integer, as a JSON number.")
    return value


def _parse_date_time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise GraphQLError("DateTime is an RFC 3339 date and time with its offset, as a string.")
    return time


def _parse_upload(value: object) -> object:
    if not hasattr(value, "read"):
        raise GraphQLError("Upload is a file part of a multipart request, not a value in the variables.")
    return value


def _never_sent(value: object) -> object:
    raise GraphQLError("Upload is for inputs only.")


BigInt = NewType("BigInt", int)
Upload = NewType("Upload", object)

SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="An integer that may exceed 32 bits, sent as a JSON number.",
        serialize=int,
        parse_value=_parse_big_int,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="An RFC 3339 date and time with its offset.",
        serialize=datetime.isoformat,
        parse_value=_parse_date_time,
    ),
    Upload: strawberry.scalar(
        name="Upload",
        description="A file part of a multipart request (GraphQL multipart request specification).",
        serialize=_never_sent,
        parse_value=_parse_upload,
    ),
}

# ----------------------------------------------------------------------------- interfaces


@interface_type
class Node:
    """Anything that can be fetched again by its ID with Query.node."""

    id: strawberry.ID = strawberry.field(
        description=(
            "Opaque to clients, readable to people: a kind and a sortable unique part, such as sae_01JD3Z…;"
            " a neuron's is neuron_ with its SAE's unique part and its index."
        )
    )


class ErrorCode(StrEnum):
    """What kind of refusal or failure it is."""

    INVALID_INPUT = "INVALID_INPUT"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    IDEMPOTENCY_KEY_MISMATCH = "IDEMPOTENCY_KEY_MISMATCH"
    VERSION_MISMATCH = "VERSION_MISMATCH"
    QUEUE_FULL = "QUEUE_FULL"
    BUSY = "BUSY"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    TOO_COMPLEX = "TOO_COMPLEX"
    INTERNAL = "INTERNAL"


describe_enum(
    ErrorCode,
    "Why something was refused or went wrong; in a refusal's code, or in extensions.code of an error.",
    {
        "INVALID_INPUT": "The input itself is wrong, whatever the server's state.",
        "NOT_FOUND": "There is nothing of the asked kind with this ID.",
        "CONFLICT": "The request clashes with what is there.",
        "IDEMPOTENCY_KEY_MISMATCH": "The idempotency key was used before, with another input.",
        "VERSION_MISMATCH": "What the edit was made from has been changed since.",
        "QUEUE_FULL": "As many jobs wait as may wait.",
        "BUSY": "As many interactive requests run or wait as may.",
        "UNAUTHENTICATED": "No access token was given, or a wrong one.",
        "FORBIDDEN": "Not allowed here, with or without a token.",
        "TOO_COMPLEX": "The query asks for more than a query may.",
        "INTERNAL": "A fault of the server; its log has more under extensions.reference.",
    },
)


@interface_type
class Error:
    """A place where one of a set of typed refusals can stand in a result."""

    code: ErrorCode = strawberry.field(description="What kind of refusal it is.")
    message: str = strawberry.field(
        description="One sentence that says what is wrong and what would be right."
    )


@object_type
class FieldError:
    """One thing wrong with an input."""

    path: list[str] = strawberry.field(
        description='Where in the input, from its root, e.g. ["edits", "3", "neuronIndex"].'
    )
    message: str = strawberry.field(description="What is wrong there and what would be right.")


@object_type
class InvalidInput(Error):
    """The input itself is wrong, whatever the server's state."""

    fields: list[FieldError] = strawberry.field(description="Everything that was found wrong.")


@object_type
class NotFound(Error):
    """There is nothing of the asked kind with this ID."""

    missing_id: strawberry.ID = strawberry.field(description="The ID that was given.")


@object_type
class Conflict(Error):
    """The request clashes with what is there: a name in use, a version that has moved on, an idempotency key
    used for something else, an artifact still in use.
    """

    conflicting_id: strawberry.ID | None = strawberry.field(
        description="What it clashes with, where that has an ID."
    )


@object_type
class QueueFull(Error):
    """The server has no room for this now."""

    retry_after_seconds: int = strawberry.field(description="When it is worth trying again.")


# -------------------------------------------------------------------------------- deletion


@object_type
class Deleted:
    """It is gone, with its files."""

    deleted_id: strawberry.ID = strawberry.field(description="The ID that it had.")


DeleteResult = Annotated[
    Deleted | NotFound | Conflict, strawberry.union("DeleteResult", description="What deleting came to.")
]
