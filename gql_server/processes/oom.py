"""Whether the system has ended processes because the machine had no memory left."""

from pathlib import Path

ENDED = (
    "The system ended the worker, because the machine had no memory left: use a smaller batch, fewer neurons "
    "or a smaller model."
)


def kills_so_far() -> int:
    """Return how many processes the system has ended for that since its start; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
