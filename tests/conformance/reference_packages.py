"""Running the scripts of this folder, which use the Node packages that package.json names."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
NODE = shutil.which("node")
SCRIPT_SECONDS = 240

needs_node_packages = [
    pytest.mark.skipif(NODE is None, reason="needs Node.js"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules/.package-lock.json").exists(),
        reason="needs the reference clients: make conformance",
    ),
]


async def run_script(name: str, *arguments: str) -> Any:
    """Return what a script prints as JSON."""
    assert NODE
    process = await asyncio.create_subprocess_exec(
        NODE, str(FOLDER / name), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SCRIPT_SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)
