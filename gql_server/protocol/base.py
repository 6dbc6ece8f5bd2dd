"""The base of all messages."""

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the class's name tells them apart on the wire."""
