"""Workers that end as soon as they start."""

import asyncio
import math
import os
import signal
from contextlib import suppress

from gql_server.jobs.worker_process import FIRST_PAUSE_SECONDS
from tests.attack.attack import Scale, attack, refusal_of
from tests.attack.models import GENERATE
from tests.attack.site import Site

CLIENTS = 4
PATIENCE_SECONDS = 60


@attack("14", "a worker that is killed as soon as it starts")
async def killed(site: Site, scale: Scale) -> str:
    """While several clients ask for what needs it, again and again."""
    asked = {"languageModelId": site.language_model_id, "prompts": ["a"], "maxNewTokens": 1}
    told: set[str] = set()
    pids: set[int] = set()

    async def ask() -> None:
        while True:
            told.add(refusal_of(await site.ask(GENERATE, input=asked)))
            await asyncio.sleep(0.02)

    async def kill() -> None:
        while True:
            pid = site.server.worker("interactive")
            if pid is not None and pid not in pids:
                pids.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)

    tasks = [asyncio.ensure_future(one) for one in (kill(), *(ask() for _ in range(CLIENTS)))]
    await asyncio.wait(tasks, timeout=2 * scale.hold_seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # The first was ready, so the next began at once; each pause from then on is twice as long.
    most = 2 + math.log2(1 + 2 * scale.hold_seconds / FIRST_PAUSE_SECONDS)
    assert len(pids) <= most, f"{len(pids)} workers were started in {2 * scale.hold_seconds:g} s"
    clock = asyncio.get_running_loop().time
    ended = clock()
    while (last := refusal_of(await site.ask(GENERATE, input=asked))) != "done":
        assert last.startswith("QueueFull") and clock() - ended < PATIENCE_SECONDS, last
        await asyncio.sleep(0.2)
    said = "; ".join(sorted(told))[:110]
    return f"{len(pids)} killed in {2 * scale.hold_seconds:g} s; {said}; done {clock() - ended:.1f} s later"
