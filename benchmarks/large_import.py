"""The memory, the time and the progress of the import of a large public SAE.

``python -m benchmarks.large_import``: an SAE of 131,072 latents over 4,096 inputs, random numbers in bfloat16
in the layout of Gemma Scope 2, is imported in a process of its own, whose highest resident memory the kernel
tells; what a tiny one took before it is what the libraries keep, and is taken off.
"""

import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks import rows
from benchmarks.peers.handover import peak_megabytes
from benchmarks.rows import Row
from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.protocol.events import Event, Progress, Stage
from gql_server.protocol.tasks import ImportSae

FORMAT = "GEMMA_SCOPE_2"
GOAL = 1.5
PARAMS = "params.safetensors"
TINY = 8


class Listening:
    """A task context that keeps the times at which it was told of what is done."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def emit(self, event: Event) -> None:
        """Note the time."""
        if isinstance(event, Progress | Stage):
            self.times.append(time.perf_counter())

    def check(self) -> None:
        """Go on."""


def write(directory: Path, n_latents: int, n_inputs: int) -> None:
    """Write an SAE, some of whose thresholds are negative."""
    directory.mkdir(parents=True)
    shapes = {
        "w_enc": (n_inputs, n_latents),
        "w_dec": (n_latents, n_inputs),
        "b_enc": (n_latents,),
        "b_dec": (n_inputs,),
        "threshold": (n_latents,),
    }
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(generator=generator)
        for name, shape in shapes.items()
    }
    save_file(weights, directory / PARAMS)


def imported(directory: Path, n_latents: int, n_inputs: int) -> list[float]:
    """Import what lies in a directory; return when it began, and when it told of progress."""
    context = Listening()
    task = ImportSae(
        sae_id="sae_1",
        name="large",
        language_model_id="lm_1",
        layer="model_layers_0",
        kind="BLOCK",
        depth=0,
        n_inputs=n_inputs,
        max_latents=n_latents,
        format=FORMAT,
        source=str(directory),
        files={PARAMS: str(directory / PARAMS)},
        roots=[str(directory)],
        sae_dir=str(directory / "imported"),
    )
    import_sae(task, context, SaeClasses())
    return [*context.times, time.perf_counter()]


def measure(directory: Path, n_latents: int, n_inputs: int) -> Row:
    """Import a tiny SAE, then the large one, both written already."""
    imported(directory / "tiny", TINY, TINY)
    before = peak_megabytes()
    times = imported(directory / "large", n_latents, n_inputs)
    taken = 1e6 * (peak_megabytes() - before)
    float32 = 4 * (2 * n_latents * n_inputs + 2 * n_latents + n_inputs)
    silence = max(later - earlier for earlier, later in pairwise(times))
    return Row(
        what=f"memory of the import of {n_latents:,} latents over {n_inputs:,} inputs",
        ours=f"{taken / 1e9:.2f} GB",
        against="its size in float32",
        theirs=f"{float32 / 1e9:.2f} GB",
        measured=f"{taken / float32:.2f} ×; {times[-1] - times[0]:.0f} s, {len(times) - 2} times progress, "
        f"at most {silence:.1f} s without",
        goal=f"≤ {GOAL:g} ×",
        reached=taken <= GOAL * float32,
        precision="file: bfloat16, SAE: float32",
    )


def main() -> None:
    """Write both in a first process, whose memory is not counted, and import them in a second one."""
    parser = rows.parser(__doc__)
    parser.add_argument("--latents", type=int, default=131_072)
    parser.add_argument("--inputs", type=int, default=4_096)
    parser.add_argument("--written", type=Path, help="import what an earlier call has written there")
    given = parser.parse_args()
    if given.written is not None:
        rows.hand_over([measure(given.written, given.latents, given.inputs)], given)
        return
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory, "tiny"), TINY, TINY)
        write(Path(directory, "large"), given.latents, given.inputs)
        again = [sys.executable, "-m", "benchmarks.large_import", *sys.argv[1:], "--written", directory]
        sys.exit(subprocess.run(again).returncode)


if __name__ == "__main__":
    main()
