"""Messages on the socket: what one side frames, the other side reads, whole and in order."""

import socket
import struct

import msgspec
import pytest

from gql_server.compute.worker.channel import Channel
from gql_server.protocol import frames
from gql_server.protocol.events import Log
from gql_server.protocol.results import Done
from gql_server.protocol.tasks import UnloadLanguageModel
from gql_server.protocol.wire import CancelTask, StartTask, TaskEvent, TaskSucceeded

START = StartTask(7, "interactive", UnloadLanguageModel("lm_1"))


def test_a_frame_is_four_bytes_of_length_big_end_first_and_messagepack() -> None:
    frame = frames.frame(START)
    assert frame[: frames.HEADER_BYTES] == struct.pack(">I", len(frame) - 4)
    assert frames.body_bytes(frame[: frames.HEADER_BYTES]) == len(frame) - 4
    assert msgspec.msgpack.decode(frame[4:]) == {
        "type": "StartTask",
        "task_id": 7,
        "lane": "interactive",
        "task": {"type": "UnloadLanguageModel", "language_model_id": "lm_1"},
    }


@pytest.mark.parametrize("message", [START, CancelTask(7)])
def test_the_worker_reads_what_is_framed_for_it(message: StartTask | CancelTask) -> None:
    assert frames.to_worker.decode(frames.frame(message)[frames.HEADER_BYTES :]) == message


@pytest.mark.parametrize("message", [TaskEvent(7, Log("text")), TaskSucceeded(7, Done())])
def test_the_server_reads_what_is_framed_for_it(message: TaskEvent | TaskSucceeded) -> None:
    assert frames.from_worker.decode(frames.frame(message)[frames.HEADER_BYTES :]) == message


def test_a_channel_gives_messages_that_arrive_in_pieces_and_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(theirs)
        ours.sendall(frames.frame(START) + frames.frame(CancelTask(7))[:3])
        assert channel.receive() == START
        ours.sendall(frames.frame(CancelTask(7))[3:])
        assert channel.receive() == CancelTask(7)
        channel.send(TaskSucceeded(7, Done()))
        assert ours.recv(1000) == frames.frame(TaskSucceeded(7, Done()))
