"""The memory that an import takes, in a process of its own: its peak says nothing beside other tests."""

import subprocess
import sys
from pathlib import Path

import torch

from tests.compute.formats.published import safetensors

N_INPUTS, N_LATENTS = 1024, 24_576
PROGRAM = """
import pathlib, re, sys
from gql_server.compute.saes.classes import SaeClasses
from tests.compute.conftest import RecordingContext
from gql_server.compute.formats.sae_import import import_sae
from tests.compute.formats.published import task_for

def peak():
    # Not ru_maxrss, which a process inherits from the one that starts it.
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])

classes, before = SaeClasses(), 0
# The first, a tiny one, is for what is imported and kept by libraries.
for path in sys.argv[1:]:
    before = peak()
    task = task_for(pathlib.Path(path), n_inputs=None, max_latents=10**6)
    import_sae(task, RecordingContext(), classes)
print(peak() - before)
"""


def test_an_import_takes_little_more_memory_than_its_weights_in_float32(tmp_path: Path) -> None:
    for name, n_latents in (("tiny", 8), ("large", N_LATENTS)):
        weights = {
            "w_enc": torch.zeros(N_INPUTS, n_latents, dtype=torch.bfloat16) + 0.5,
            "w_dec": torch.zeros(n_latents, N_INPUTS, dtype=torch.bfloat16) + 0.25,
            "b_enc": torch.zeros(n_latents, dtype=torch.bfloat16),
            "b_dec": torch.zeros(N_INPUTS, dtype=torch.bfloat16),
            "threshold": torch.ones(n_latents, dtype=torch.bfloat16),
        }
        safetensors(tmp_path / name / "sae" / "params.safetensors", weights)
    paths = [str(tmp_path / name / "sae") for name in ("tiny", "large")]
    run = subprocess.run([sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    float32_bytes = 4 * 2 * N_INPUTS * N_LATENTS
    assert 0.9 * float32_bytes < int(run.stdout) < 1.5 * float32_bytes
