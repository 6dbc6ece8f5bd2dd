"""A process that is told to stop ends, whatever hangs in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HANGS = {
    "in the system": "open(sys.argv[1])",
    "in Python": "while True: pass",
    "at the end": "threading.Thread(target=open, args=(sys.argv[1],)).start(); raise SystemExit(0)",
}
SCRIPT = """
import signal, sys, threading
from gql_server.server import shutdown
shutdown.end_in_time(0.5)
signal.signal(signal.SIGTERM, lambda *_: None)
print("ready", flush=True)
{}
"""

USR1 = "signal.SIGUSR1, lambda *_: sys.exit(7)"


@pytest.mark.parametrize("where", HANGS)
def test_what_hangs_is_not_waited_for(tmp_path: Path, where: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", SCRIPT.format(HANGS[where]), str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
        assert b"something hangs" in process.stderr.read()


def test_another_signal_is_left_to_its_handler() -> None:
    script = SCRIPT.format("while True: time.sleep(0.01)").replace("signal.SIGTERM, lambda *_: None", USR1)
    command = [sys.executable, "-c", f"import time{script}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 7
