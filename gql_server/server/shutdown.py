"""Ends this process some time after a signal to stop, whatever hangs in it."""

import os
import signal
import socket
import threading
import time

STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
FAILED = 1
"""Exit status of a process that did not end by itself."""


def end_in_time(seconds: float) -> None:
    """Have the process ended ``seconds`` after the first signal to stop, unless it has ended by then.

    A handler in Python runs only when the main thread gets to it, which may wait for a disk. The signal's
    number is written to a socket at once, and read by a thread that does nothing else.
    """
    told, tells = socket.socketpair()
    tells.setblocking(False)
    signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    watching = threading.Thread(target=_watch, args=(told, tells, seconds), daemon=True)
    watching.start()


def _watch(told: socket.socket, _kept: socket.socket, seconds: float) -> None:
    while not STOPS & set(told.recv(64)):
        pass
    # By now another thread may hold any lock: nothing but the system is asked.
    time.sleep(seconds)
    os.write(2, _LAST_WORDS)
    os._exit(FAILED)


_LAST_WORDS = b"gql-server: something hangs; the process ends without waiting for it any longer.\n"
