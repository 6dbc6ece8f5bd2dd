"""A worker's end of the socket to the API process."""

import socket
import threading

from gql_server.protocol import frames
from gql_server.protocol.wire import FromWorker, ToWorker


class Channel:
    """Messages over a socket, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Send one message; waits while the API process reads slowly."""
        frame = frames.frame(message)
        with self._sending:
            self._connection.sendall(frame)

    def receive(self) -> ToWorker:
        """Return the next message; raises EOFError where the API process is gone."""
        return frames.to_worker.decode(self._read(frames.body_bytes(self._read(frames.HEADER_BYTES))))

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._connection.recv(count - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)
