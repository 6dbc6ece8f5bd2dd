"""What the server arranges for itself before it serves."""

import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from gql_server.serving import _allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
_allow_open_files(500)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(64, 2000, 1500), (64, 1000, 1000), (1800, 2000, 1800)]
)
def test_all_sockets_that_may_be_can_be_open(soft: int, hard: int, expected: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this machine allows fewer open files")
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    assert int(subprocess.run(command, check=True, capture_output=True).stdout) == expected
