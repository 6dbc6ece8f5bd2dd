"""What npm checks of the explorer's source: its logic, types, style and format."""

import shutil
import subprocess
from pathlib import Path

import pytest

EXPLORER = Path(__file__).parents[2] / "explorer"
TIMEOUT_SECONDS = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js"),
    pytest.mark.skipif(
        not (EXPLORER / "node_modules/vitest").is_dir(), reason="needs the explorer's packages: make explorer"
    ),
]


# In this order: the check writes the documents' types, which the tests import.
@pytest.mark.parametrize("script", ["check", "test"])
def test_the_explorers_own_checks_pass(script: str) -> None:
    ended = subprocess.run(
        ["npm", "run", "--silent", script],
        cwd=EXPLORER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert ended.returncode == 0, ended.stdout
