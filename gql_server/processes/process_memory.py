"""How much memory processes take."""

import os
from pathlib import Path

_RESIDENT = 1
"""The place of the resident pages in /proc/<pid>/statm."""


def resident_bytes(pid: int) -> int | None:
    """Return the memory that a process has in RAM; None where it has ended, or the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[_RESIDENT])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
