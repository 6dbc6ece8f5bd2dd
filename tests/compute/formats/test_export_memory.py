"""The memory that exports take beside the SAE, in a process of its own: its peak says nothing elsewhere."""

import subprocess
import sys
from pathlib import Path

N_INPUTS, N_LATENTS = 1024, 12_288
PROGRAM = """
import pathlib, re, sys
from gql_server.compute.formats.sae_export import export_sae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.protocol.sources import SaeSource
from gql_server.protocol.tasks import ExportSae
from tests.compute.conftest import RecordingContext

def peak():
    # Not ru_maxrss, which a process inherits from the one that starts it.
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])

directory, n_inputs, before = sys.argv[1], int(sys.argv[2]), 0
# The first, a tiny one, is for what is imported and kept by libraries.
for n_latents in (8, int(sys.argv[3])):
    sae = SaeClasses().get("BiasedTopKSae").build(n_latents, n_inputs, 4, "cpu")
    for tensor in sae.sae_engine.state_dict().values():
        tensor.fill_(0.5)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
    before = peak()
    for format in ("SAE_LENS", "DICTIONARY_LEARNING", "SPARSIFY"):
        source = SaeSource("sae_1", "BiasedTopKSae", directory, "layer", n_inputs, n_latents, 4)
        export_sae(ExportSae(source, format, f"{directory}/{format}.zip", {}), RecordingContext(), sae)
print(peak() - before)
"""


def test_an_export_takes_a_part_of_its_weights_beside_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(N_INPUTS), str(N_LATENTS)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    float32_bytes = 4 * 2 * N_INPUTS * N_LATENTS
    assert all(path.stat().st_size > float32_bytes for path in tmp_path.glob("*.zip"))
    # A copy of the weights would be 1; pages of libraries come and go.
    assert int(run.stdout) < 0.9 * float32_bytes
