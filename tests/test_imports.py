"""The API process stays small, and a worker is there at once: neither imports what computes as it begins."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "mi_crow", "overcomplete", "datasets", "numpy", "pyarrow", "tokenizers"}


@pytest.mark.parametrize("module", ["gql_server.server.app", "gql_server.compute.worker.main"])
def test_no_computing_is_imported(module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines() if "|" in line}
    assert module in imported
    assert {name.split(".")[0] for name in imported} & HEAVY == set()
