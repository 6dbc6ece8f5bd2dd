"""A worker's end of the socket to the API process."""

import socket
import struct
import threading

import msgspec

from gql_server.protocol.wire import FromWorker, ToWorker

_LENGTH = struct.Struct(">I")


class Channel:
    """Messages over a socket, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._decoder = msgspec.msgpack.Decoder(ToWorker)

    def send(self, message: FromWorker) -> None:
        """Send one message; waits while the API process reads slowly."""
        body = msgspec.msgpack.encode(message)
        with self._sending:
            self._connection.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> ToWorker:
        """Return the next message; raises EOFError where the API process is gone."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        message: ToWorker = self._decoder.decode(self._read(length))
        return message

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._connection.recv(count - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)
