"""How messages stand on the socket between API process and worker: four bytes of length, then MessagePack."""

import struct

import msgspec

from gql_server.protocol.base import Message
from gql_server.protocol.wire import FromWorker, ToWorker

_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size

to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def frame(message: Message) -> bytes:
    """Return a message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def body_bytes(header: bytes) -> int:
    """Return how many bytes follow a header."""
    length: int = _LENGTH.unpack(header)[0]
    return length
