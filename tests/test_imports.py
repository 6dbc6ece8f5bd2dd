"""The API process stays small: it imports nothing of what computes."""

import subprocess
import sys

HEAVY = {"torch", "transformers", "mi_crow", "overcomplete", "datasets", "numpy", "pyarrow", "tokenizers"}


def test_the_application_imports_no_computing() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import gql_server.server.app"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines() if "|" in line}
    assert "gql_server.server.app" in imported
    assert {name.split(".")[0] for name in imported} & HEAVY == set()
