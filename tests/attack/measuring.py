"""What an attack does to a server and to whoever else uses it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from gql_server.artifacts.disk import used_bytes
from tests.attack.site import Site

SAMPLE_SECONDS = 0.05


@dataclass
class Measures:
    """Of one attack."""

    waits: list[float] = field(default_factory=list)
    """The bystander's, in milliseconds."""
    memory: int = 0
    """The most that the API process had, in bytes (resident)."""
    descriptors: int = 0
    """The most that it had open."""
    left: int = 0
    """What the attack left in the artifact directory, in bytes."""
    log: int = 0
    """What it left in the log, in bytes."""

    @property
    def worst(self) -> float:
        """The longest wait, in milliseconds."""
        return max(self.waits, default=0.0)

    @property
    def typical(self) -> float:
        """The median wait, in milliseconds."""
        return median(self.waits) if self.waits else 0.0


@asynccontextmanager
async def measured(site: Site) -> AsyncIterator[Measures]:
    """Measure while the block runs; the result is whole when it has ended."""
    measures = Measures()
    left, log = used_bytes(site.artifact_dir), site.log.stat().st_size
    command = [sys.executable, "-m", "tests.attack.bystander", site.host, str(site.port), site.token]
    pipe = asyncio.subprocess.PIPE
    bystander = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    await asyncio.sleep(1)  # Until it asks.
    sampling = asyncio.create_task(_sample(site.pid, measures))
    try:
        yield measures
    finally:
        sampling.cancel()
        printed, _ = await bystander.communicate(b"")
    measures.waits = json.loads(printed)
    measures.left = used_bytes(site.artifact_dir) - left - (site.log.stat().st_size - log)
    measures.log = site.log.stat().st_size - log


async def _sample(pid: int, measures: Measures) -> None:
    while True:
        measures.memory = max(measures.memory, memory_of(pid))
        measures.descriptors = max(measures.descriptors, open_files_of(pid))
        await asyncio.sleep(SAMPLE_SECONDS)


def memory_of(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def open_files_of(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
