"""Full garbage collections, made seldom: each stops the server for some 0.8 µs per object.

Python by itself does so each time their number has grown by a quarter: every few seconds while subscriptions
are begun. Among the young ones it goes on to look often; what is in no circle of references ends by itself.
"""

import asyncio
import gc
import resource
import sys
import time

INTERVAL_SECONDS = 60.0
GROWTH_BYTES = 64 * 1024 * 1024
"""By which the process's memory grows before its time is up."""
LOOK_SECONDS = 1.0
NEVER = 1_000_000_000
"""Looks among the middle-aged, before Python looks among all."""
_UNIT = 1 if sys.platform == "darwin" else 1024


async def collect_seldom() -> None:
    """Look for it until this is canceled; from then on Python does so by itself again."""
    young, middle_aged, old = gc.get_threshold()
    gc.set_threshold(young, middle_aged, NEVER)
    try:
        since, peak = time.monotonic(), _peak_bytes()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if time.monotonic() > since + INTERVAL_SECONDS or _peak_bytes() > peak + GROWTH_BYTES:
                gc.collect()
                since, peak = time.monotonic(), _peak_bytes()
    finally:
        gc.set_threshold(young, middle_aged, old)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
