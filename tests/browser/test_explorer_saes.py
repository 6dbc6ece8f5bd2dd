"""An SAE, its neurons and their names in the explorer, in a real browser."""

from pathlib import Path

import pytest

from gql_server.api.transport import explorer
from tests.browser import explored_sae
from tests.browser.browsing import NEEDS_BROWSER, drive
from tests.browser.explored_sae import N_NEURONS, NAME, NAMED, ExploredSae
from tests.e2e.client import api
from tests.support.server_process import RunningServer

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not explorer.is_built(), reason="needs the explorer's bundle: make explorer"),
]

MAX_ROWS = 60


@pytest.fixture(scope="module")
async def sae(tiny_server: RunningServer, tiny_model_dir: Path) -> ExploredSae:
    """Make an SAE to look at."""
    async with api(tiny_server.url) as client:
        return await explored_sae.make(client, tiny_model_dir, "explored SAE's model")


async def test_pages_of_saes_neurons_and_names_can_be_used_by_everybody(
    tiny_server: RunningServer, sae: ExploredSae
) -> None:
    canceled = f"/saes/{sae.canceled_id}"
    neuron = f"{sae.path}/neurons/{NAMED}"
    beyond = f"{sae.path}/neurons/{N_NEURONS}"
    found = await drive(
        "open_pages",
        tiny_server.url,
        path="/",
        paths=[sae.path, neuron, f"{sae.path}/concepts", beyond, canceled, "/saes/sae_nothing"],
        until={
            sae.path: "Whole map",
            neuron: "Strongest",
            f"{sae.path}/concepts": NAME,
            canceled: "See its job",
        },
    )

    pages = found["pages"]
    assert "CE loss recovered" in pages[sae.path]["text"]
    assert f"{N_NEURONS} listed" in pages[sae.path]["text"]
    assert pages[neuron]["title"] == f"#{NAMED} {NAME} · gql-server"
    assert "There is no such neuron" in pages[beyond]["text"]
    assert f"0 to {N_NEURONS - 1}" in pages[beyond]["text"]
    assert "There is no such SAE" in pages["/saes/sae_nothing"]["text"]
    assert {path: page["findings"] for path, page in pages.items()} == {path: [] for path in pages}
    assert {path: page["overflow"] for path, page in pages.items()} == dict.fromkeys(pages, 0)


async def test_a_neuron_is_found_tested_and_named(tiny_server: RunningServer, sae: ExploredSae) -> None:
    place = 300
    found = await drive(
        "explore_sae",
        tiny_server.url,
        path="/",
        sae=sae.path,
        scrollTo=place,
        prompt="A list of numbers, and another one.",
        name="guessed",
    )

    assert found["scrolled"]["index"] == f"#{sae.by_frequency[place]}"
    assert 0 < found["scrolled"]["rows"] <= MAX_ROWS
    assert NAME in found["found"]["text"]
    assert "q=numbers+lis" in found["found"]["address"]
    assert "in=CONCEPT" in found["found"]["address"]
    first, second = sae.by_frequency[:2]
    assert found["first"] == f"#{first}"
    assert found["second"]["heading"] == f"#{second}"
    assert "order=FREQUENCY_DESC&dead=no" in found["second"]["address"]
    assert "numbers" in found["tested"]["text"]
    assert f"edits={first}:1:" in found["tested"]["steer"]
    assert "text " in found["tested"]["related"]["row"]
    assert found["tested"]["related"]["isOpen"] == "true"
    assert found["tested"]["texts"] == 12
    assert "of its firings" in found["tested"]["pointed"]
    taken = found["tested"]["taken"]
    assert taken["hasFocus"]
    assert "".join(taken["text"].split()) in "".join(taken["shown"].replace("↵", "").replace("·", "").split())
    assert found["named"] == f"#{first} guessed"
    assert found["copied"]["latentCount"] == N_NEURONS
    assert found["copied"]["training"]["config"]["seed"] == 0
    assert found["random"] in {f"#{one}" for one in sae.firing}
    assert "There is no neuron 99999" in found["refused"]["preview"]
    assert "csv" in found["refused"]["server"]
    lines = ["neuron_idx,concept_name,score", f'{first},"guessed",', f'{NAMED},"{NAME}",', '7,"seven",0.5']
    assert sorted(found["exported"].split("\r\n")) == sorted([*lines, ""])
