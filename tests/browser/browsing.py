"""A real browser that drivers in JavaScript drive, and that reaches the server alone."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
DRIVERS = Path(__file__).parent / "drivers"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node")
SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""An existing directory for pictures of what the tests see, for people to look at."""

TOKEN = "swordfish"
REFUSED = "Failed to load resource: the server responded with a status of {}"
SIGNING_IN = [REFUSED.format("401 (Unauthorized)")] * 3
"""At first, with a wrong token, and with none again."""

LINE_BYTES = 64 * 1024 * 1024
"""A driver prints what it has found in one line."""

NEEDS_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(NODE is None, reason="needs Node.js"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        not (ROOT / "explorer/node_modules/playwright-core").is_dir(),
        reason="needs playwright-core: make explorer",
    ),
]


class Driving:
    """A driver while it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.found: dict[str, Any] = {}
        """What it has found, once it has ended."""

    async def reached(self, stage: str) -> None:
        """Wait until the driver tells that it is there."""
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            await self.ended()
        assert json.loads(line) == {"stage": stage}

    async def hand(self, **given: Any) -> None:
        """Hand the driver what it waits for."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(given).encode() + b"\n")
        await self._process.stdin.drain()

    async def ended(self) -> None:
        """Wait for the driver's end, and take what it has found."""
        if self.found:
            return
        output, complaints = await self._process.communicate()
        assert self._process.returncode == 0, complaints.decode()
        self.found = json.loads(output)


@asynccontextmanager
async def driving(driver: str, url: str, **options: Any) -> AsyncIterator[Driving]:
    """Run a driver while the block runs, and beyond until it ends."""
    assert NODE
    assert CHROMIUM
    given = {"url": url, "executablePath": CHROMIUM, "screenshots": SCREENSHOTS} | options
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(DRIVERS / f"{driver}.mjs"),
        json.dumps(given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    try:
        running = Driving(process)
        yield running
        await running.ended()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def drive(
    driver: str,
    url: str,
    *,
    errors: Sequence[str] | None = (),
    hosts: Set[str] = frozenset(),
    **options: Any,
) -> dict[str, Any]:
    """Run a driver and return what it has found.

    Args:
        driver: Its file's name.
        url: The server's, such as http://127.0.0.1:8000.
        errors: What the browser's console must show; each violation of a content security policy is in it.
            None where that does not matter.
        hosts: Where the page must have sent requests to besides the server; none of them is reached.
        options: More of the driver's own.
    """
    async with driving(driver, url, **options) as running:
        pass
    found = running.found
    requested = {urlsplit(url).netloc for url in found["requests"] if not url.startswith(("data:", "blob:"))}
    assert requested == {urlsplit(url).netloc} | hosts
    assert errors is None or found["errors"] == list(errors)
    return found
