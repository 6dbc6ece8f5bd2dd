"""Limits of what all clients send at the same time: bodies in memory, and uploads on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager

MAX_BODIES_BYTES = 128 * 1024 * 1024
"""The bytes of all requests without files that are received or answered."""
MAX_UPLOADS = 8
"""The number of requests with files, each of which goes to the disk as it arrives."""
SMALL_BYTES = 64 * 1024
"""The size that every request may have, however many there are."""


class Full(Exception):
    """A request does not fit; the message says which limit it exceeds."""


class Intake:
    """Counts the bodies and uploads of unfinished requests."""

    def __init__(self) -> None:
        self._bytes = 0
        self._uploads = 0

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Hold a place for a request with files while the block runs. Raises Full where there is none."""
        if self._uploads >= MAX_UPLOADS:
            raise Full(f"{MAX_UPLOADS} uploads are under way, which is the limit; try again later.")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    @contextmanager
    def body(self) -> Iterator["Body"]:
        """Give what counts the bytes of a request's body while the block runs."""
        body = Body(self)
        try:
            yield body
        finally:
            self._bytes -= body.n_bytes

    def add(self, body: "Body", n_bytes: int) -> None:
        """Count bytes of a body. Raises Full where all bodies together have too many."""
        self._bytes += n_bytes
        body.n_bytes += n_bytes
        if body.n_bytes > SMALL_BYTES and self._bytes > MAX_BODIES_BYTES:
            raise Full("All clients together send too much at the moment; try again.")


class Body:
    """A request's body, as far as it has come."""

    def __init__(self, intake: Intake) -> None:
        self.n_bytes = 0
        self._intake = intake

    def add(self, n_bytes: int) -> None:
        """Count what has come. Raises Full where all bodies together have too much."""
        self._intake.add(self, n_bytes)
