"""Values as they stand in a document, and what of them goes into a multipart request beside it."""

import math
from typing import Any

from graphql import (
    BooleanValueNode,
    EnumValueNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    NameNode,
    NullValueNode,
    ObjectFieldNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
)

from tests.fuzz.values import FilePart, Word


def literal(value: Any) -> ValueNode:
    """Return a value as it stands in a document; what has no place there, as text."""
    match value:
        case None:
            return NullValueNode()
        case bool():
            return BooleanValueNode(value=value)
        case int():
            return IntValueNode(value=str(value))
        case float():
            if math.isnan(value):
                return EnumValueNode(value="NaN")
            return FloatValueNode(value=repr(value) if math.isfinite(value) else "1e999")
        case Word():
            return EnumValueNode(value=str(value))
        case list():
            return ListValueNode(values=tuple(literal(item) for item in value))
        case dict():
            members = [
                ObjectFieldNode(name=NameNode(value=name), value=literal(item))
                for name, item in value.items()
            ]
            return ObjectValueNode(fields=tuple(members))
    return StringValueNode(value=str(value))


def files_in(value: Any, path: str = "") -> list[tuple[str, FilePart]]:
    """Return the files in a value with their places, as a multipart request's map has them."""
    match value:
        case FilePart():
            return [(path, value)]
        case dict():
            return [found for name, item in value.items() for found in files_in(item, f"{path}.{name}")]
        case list():
            return [found for place, item in enumerate(value) for found in files_in(item, f"{path}.{place}")]
    return []


def without_files(value: Any) -> Any:
    """Return a value with null in the place of files."""
    match value:
        case FilePart():
            return None
        case dict():
            return {name: without_files(item) for name, item in value.items()}
        case list():
            return [without_files(item) for item in value]
    return value
