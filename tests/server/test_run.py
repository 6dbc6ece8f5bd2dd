"""What the server arranges for itself before it serves."""

import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from gql_server.server.run import _allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
connections = _allow_open_files(500)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], connections)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "files", "connections"),
    [(64, 3000, 2000, 1000), (64, 1000, 1000, 500), (2500, 3000, 2500, 1000)],
)
def test_all_sockets_that_may_be_can_be_open(soft: int, hard: int, files: int, connections: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this machine allows fewer open files")
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    told = subprocess.run(command, check=True, capture_output=True).stdout
    assert [int(number) for number in told.split()] == [files, connections]
