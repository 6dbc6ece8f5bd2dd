"""How much of the machine's processors other processes take (Linux; elsewhere it counts as nothing)."""

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE_FIELDS = (3, 4)
"""Places in a processor's line of /proc/stat: idle time, and time waiting for a disk."""
_GUEST_FIELDS = 2
"""Fields at the end of the line that other fields already include."""


def allowed_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class OtherProcesses:
    """Measures it between one look and the next, without some processes' own time."""

    def __init__(self) -> None:
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._before: tuple[float, float, dict[int, float]] | None = None

    def processors(self, without: list[int]) -> float:
        """Return how many processors others have kept busy since the last call; 0 at the first.

        ``without`` are processes that do not count.
        """
        if not _STAT.exists():
            return 0.0
        now = (time.monotonic(), self._busy(), {process: self._used(process) for process in without})
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return 0.0
        own = sum(used - before[2].get(process, used) for process, used in now[2].items())
        return max(0.0, (now[1] - before[1] - own) / (now[0] - before[0]))

    def _busy(self) -> float:
        """Return the seconds that the processors which this process may use have been busy, together."""
        allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = 0
        for line in _STAT.read_text().splitlines():
            name, *fields = line.split()
            if name in allowed:
                values = [int(value) for value in fields[: len(fields) - _GUEST_FIELDS]]
                ticks += sum(values) - sum(values[place] for place in _IDLE_FIELDS)
        return ticks / self._ticks_per_second

    def _used(self, process: int) -> float:
        """Return the seconds that a process has computed; 0 of one that is gone."""
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / self._ticks_per_second
