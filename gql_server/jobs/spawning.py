"""The operating system's side of a worker: how its process starts and ends."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence

_STANDARD_ERROR = 2


async def spawn(
    module: str,
    lanes: Sequence[str],
    options: Sequence[str],
    descriptors: Sequence[int] = (),
    gpu: str | None = None,
) -> tuple[Process, asyncio.StreamReader, asyncio.StreamWriter]:
    """Start a worker's module with one end of a socket; returns the process and the other end.

    What its libraries print is to be read from the process's ``stdout``: it is for neither this process's
    terminal nor the socket. Its own log lines go where this process's go. ``descriptors`` are what it
    inherits besides, and ``gpu`` the one that it is to see.
    """
    ours, theirs = socket.socketpair()
    log = os.dup(_STANDARD_ERROR)
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", module, str(theirs.fileno()), ",".join(lanes)),
                *options,
                f"--log-descriptor={log}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=None if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": gpu},
                pass_fds=[theirs.fileno(), log, *descriptors],
            )
        except BaseException:
            writer.close()
            raise
        finally:
            os.close(log)
    return process, reader, writer


def kill(process: Process) -> None:
    """End a process at once, unless it has ended."""
    if process.returncode is None:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def how_it_ended(exit_code: int) -> str:
    """Return a sentence about the exit code of a process that was not to end."""
    if exit_code == -signal.SIGKILL:
        return "The worker was killed, perhaps because the machine had no memory left."
    if exit_code < 0:
        names = {int(one): one.name for one in signal.Signals}
        return f"The worker ended by signal {names.get(-exit_code, -exit_code)}."
    return f"The worker ended by itself with exit code {exit_code}."
