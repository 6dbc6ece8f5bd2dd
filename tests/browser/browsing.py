"""A real browser that drivers in JavaScript drive, and that reaches the server alone."""

import asyncio
import json
import os
import shutil
from collections.abc import Sequence, Set
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

NEEDS_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(NODE is None, reason="needs Node.js"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        not (ROOT / "explorer/node_modules/playwright-core").is_dir(),
        reason="needs playwright-core: make explorer",
    ),
]


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
    assert NODE
    assert CHROMIUM
    given = {"url": url, "executablePath": CHROMIUM, "screenshots": SCREENSHOTS} | options
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(DRIVERS / f"{driver}.mjs"),
        json.dumps(given),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    found: dict[str, Any] = json.loads(output)
    requested = {urlsplit(url).netloc for url in found["requests"] if not url.startswith(("data:", "blob:"))}
    assert requested == {urlsplit(url).netloc} | hosts
    assert errors is None or found["errors"] == list(errors)
    return found
