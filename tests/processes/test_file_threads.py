"""Directories that do not answer keep only those waiting who ask for them."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gql_server.artifacts.file_hashes import sha256_of
from gql_server.artifacts.files import open_plain
from gql_server.errors import QueueFull
from gql_server.model_files.directories import problem_of_directory
from gql_server.processes import file_threads
from gql_server.processes.file_threads import FileThreads


async def test_a_look_that_does_not_come_back_is_told_and_others_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_threads, "SECONDS", 0.05)
    end, looking = threading.Event(), FileThreads()
    try:
        with pytest.raises(QueueFull, match="did not answer within"):
            await looking.look(end.wait)
        monkeypatch.setattr(file_threads, "SECONDS", 30)
        assert await looking.look(len, "abc") == 3
        assert await asyncio.to_thread(len, "abc") == 3
    finally:
        end.set()


async def test_what_hangs_takes_the_place_of_so_many_looks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_threads, "SECONDS", 0.05)
    end, looking = threading.Event(), FileThreads()
    try:
        for _ in range(file_threads.AT_ONCE + 1):
            with pytest.raises(QueueFull):
                await looking.look(end.wait)
        for _ in range(10):
            assert await asyncio.to_thread(len, "abc") == 3
    finally:
        end.set()


@pytest.mark.parametrize("read", [open_plain, sha256_of])
def test_a_pipe_is_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="Not a plain file"):
        read(path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_nor_is_one_in_a_language_models_directory(tiny_model_dir: Path, tmp_path: Path, name: str) -> None:
    for file in tiny_model_dir.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    os.mkfifo(tmp_path / name)
    found: list[str | None] = []
    looking = threading.Thread(target=lambda: found.append(problem_of_directory(tmp_path)), daemon=True)
    looking.start()
    looking.join(30)
    assert found and found[0] is not None
