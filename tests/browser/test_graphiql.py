"""GraphiQL in a real browser, served by a real server, with nothing from the internet."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gql_server.api import graphiql
from tests.server_process import RunningServer
from tests.test_documents import fenced

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(NODE is None, reason="needs Node.js"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        not graphiql.is_built() or not (ROOT / "frontend/node_modules/playwright-core").is_dir(),
        reason="needs the GraphiQL bundle: make graphiql",
    ),
]


async def press_run(url: str) -> dict[str, Any]:
    assert NODE
    assert CHROMIUM
    script = Path(__file__).parent / "press_run.mjs"
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(script),
        f"{url}/graphql",
        CHROMIUM,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    happened: dict[str, Any] = json.loads(output)
    return happened


async def test_the_run_button_answers_the_readmes_query_without_the_internet(
    running_server: RunningServer,
) -> None:
    happened = await press_run(running_server.url)

    assert fenced(ROOT / "README.md")[0] in happened["sent"]["query"]
    assert happened["status"] == 200
    assert "errors" not in happened["received"]
    assert "TopKSae" in happened["received"]["data"]["server"]["saeClasses"]
    assert json.loads(happened["shown"]) == happened["received"]
    assert {
        urlsplit(url).netloc for url in happened["requests"] if not url.startswith(("data:", "blob:"))
    } == {urlsplit(running_server.url).netloc}
    assert happened["errors"] == []
