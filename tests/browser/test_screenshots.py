"""The pictures of the explorer for the docs, taken of a small SAE."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from benchmarks import screenshots
from benchmarks.served import Client
from gql_server.api.transport import explorer
from tests.browser.browsing import NEEDS_BROWSER
from tests.browser.small_sae import SmallSae
from tests.support.server_process import RunningServer

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not explorer.is_built(), reason="needs the explorer's bundle: make explorer"),
    pytest.mark.slow,
]


async def test_each_page_is_taken_in_light_and_dark(
    tiny_server: RunningServer, small_sae: SmallSae, tmp_path: Path
) -> None:
    await asyncio.to_thread(check_pictures, tiny_server.url, small_sae, tmp_path)


def check_pictures(url: str, sae: SmallSae, directory: Path) -> None:
    """Take the pictures of an SAE, and hold the light ones against the dark ones."""
    options = ["--sae", sae.id, "--neuron", str(sae.neuron), "--bias", str(sae.strong), "--asked", "A list"]
    with closing(Client(int(url.rpartition(":")[2]))) as client:
        views = list(screenshots.views(screenshots.find(client, screenshots.parser().parse_args(options))))

    files = screenshots.take(url, views, directory)

    assert set(files) == set(directory.iterdir())
    assert len(files) == 2 * len(views)
    for light, dark in zip(files[::2], files[1::2], strict=True):
        with Image.open(light) as bright, Image.open(dark) as dim:
            assert bright.size == dim.size
            assert ImageStat.Stat(bright.convert("L")).mean[0] > 200
            assert ImageStat.Stat(dim.convert("L")).mean[0] < 60
