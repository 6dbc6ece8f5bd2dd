"""What all tables share: named constraints, UTC times, enums and JSON as text."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import DateTime, Dialect, Enum, MetaData, UnaryExpression
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.types import TypeDecorator

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC. SQLite drops offsets, so they are removed and given back here."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into a naive one in UTC; a naive one is a bug."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without an offset cannot be stored; use an aware datetime.")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the stored time its offset back."""
        return None if value is None else value.replace(tzinfo=UTC)


def enum_column_type(enum: type[StrEnum]) -> Enum:
    """Return a column type that keeps an enum's value as text; the tables do not repeat its members."""
    return Enum(enum, native_enum=False, create_constraint=False, length=32, values_callable=_values)


def _values(enum: type[Any]) -> list[str]:
    return [member.value for member in enum]


def without_index(column: Any) -> Any:
    """Return a column as SQLite looks for in no index, for a condition that most rows may well fulfil.

    Else it would find and sort all of those, where an index in the order of the result ends at the first few.
    """
    return UnaryExpression(column.expression, operator=custom_op("+"), type_=column.type)


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
