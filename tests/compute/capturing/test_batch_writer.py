"""Writing in a thread beside the computing."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from gql_server.compute.capturing.batch_writer import MAX_BYTES, MAX_WAITING, BatchWriter
from gql_server.compute.worker.context import CancelRequested


def nothing() -> None:
    """Write nothing."""


def test_batches_are_written_in_order_and_told_when_they_are_there() -> None:
    gate, written = threading.Event(), list[int]()

    def write(index: int) -> None:
        gate.wait()
        written.append(index)

    with BatchWriter() as writer:
        for index in range(MAX_WAITING):
            writer.put(index, 1, partial(write, index))
        assert list(writer.written()) == []
        gate.set()
        assert list(writer.finish()) == written == list(range(MAX_WAITING))


@pytest.mark.parametrize("n_bytes", [1, MAX_BYTES // 2, MAX_BYTES + 1])
def test_batches_wait_in_memory_up_to_a_number_and_to_a_size(n_bytes: int) -> None:
    most = {1: MAX_WAITING, MAX_BYTES // 2: 2, MAX_BYTES + 1: 1}[n_bytes]
    gates = [threading.Event() for _ in range(most + 1)]
    with BatchWriter() as writer:
        for index in range(most):
            writer.put(index, n_bytes, gates[index].wait)
        assert list(writer.written()) == []
        threading.Timer(0, gates[0].set).start()
        writer.put(most, n_bytes, gates[most].wait)  # Returns when batch 0 is written.
        assert list(writer.written()) == [0]
        for gate in gates:
            gate.set()
        assert list(writer.finish()) == list(range(1, most + 1))


def fail() -> None:
    """Write, and find no room."""
    raise OSError("full")


def put_and_finish(*writes: Callable[[], None]) -> list[int]:
    """Put all, and return what was told of."""
    told = list[int]()
    with BatchWriter() as writer:
        for index, write in enumerate(writes):
            writer.put(index, 1, write)
            told += writer.written()
        told += writer.finish()
    return told


@pytest.mark.parametrize("n_before", [0, 1])
@pytest.mark.parametrize("n_after", [0, 1, MAX_WAITING + 1])
def test_what_goes_wrong_in_writing_is_raised_here(n_before: int, n_after: int) -> None:
    with pytest.raises(OSError, match="full"):
        put_and_finish(*[nothing] * n_before, fail, *[nothing] * n_after)


def test_what_was_put_is_written_although_the_task_is_canceled() -> None:
    written, gate = list[int](), threading.Event()

    def write(index: int) -> None:
        gate.wait()
        written.append(index)

    def put_and_cancel() -> None:
        with BatchWriter() as writer:
            for index in range(MAX_WAITING):
                writer.put(index, 1, partial(write, index))
            gate.set()
            raise CancelRequested

    with pytest.raises(CancelRequested):
        put_and_cancel()
    assert written == list(range(MAX_WAITING))
