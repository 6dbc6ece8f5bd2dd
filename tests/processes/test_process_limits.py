"""What a process arranges for its memory, as the kernel counts it."""

import json
import platform
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json, resource
from pathlib import Path
import torch
from gql_server.processes.process_limits import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(2**25, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20

torch.set_num_threads(1)
found = {"before": faults(), "resident": megabytes()}
with freed_memory_kept():
    faults()
    found["kept"] = faults()
    held = [torch.ones(2**25, dtype=torch.uint8) for _ in range(20)]
    del held
    found["resident then"] = megabytes()
found["resident after"] = megabytes()
print(json.dumps(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries are left as they are")
def test_freed_memory_is_kept_for_the_next_and_given_back_in_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    pages = 2**25 / 4096
    assert found["before"] > 9 * pages, "without it every block is got anew"
    assert found["kept"] < pages / 2
    assert found["resident then"] > found["resident"] + 500
    assert found["resident after"] < found["resident"] + 50
