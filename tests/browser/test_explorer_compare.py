"""SAEs beside one another, and the server's state, in the explorer."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gql_server.api.transport import explorer
from tests.browser.browsing import NEEDS_BROWSER, drive
from tests.browser.trainings import capture, training
from tests.e2e.client import api, load_model
from tests.support.server_process import RunningServer

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not explorer.is_built(), reason="needs the explorer's bundle: make explorer"),
]

NAMES = ["wide and dense", "narrow"]
HISTORY = "query($id: ID!) { sae(id: $id) { trainingHistory(maxPoints: 1000) { step tokenCount loss } } }"


@dataclass(frozen=True)
class Trained:
    """A server with two trained SAEs."""

    url: str
    saes: list[str]
    histories: list[list[dict[str, float]]]


@pytest.fixture(scope="module")
async def trained(tiny_server: RunningServer, tiny_model_dir: Path) -> Trained:
    """Train two SAEs, one after the other."""
    async with api(tiny_server.url) as client:
        language_model = await load_model(client, str(tiny_model_dir), "compared SAEs' model")
        run, _ = await client.run_job("captureActivations", **capture(language_model, 100))
        given = [{"latentCount": 128, "k": 16, "epochs": 3}, {"latentCount": 32, "k": 4, "epochs": 2}]
        saes, histories = [], []
        for name, options in zip(NAMES, given, strict=True):
            sae, _ = await client.run_job("trainSae", **training(run, name=name, **options))
            saes.append(sae)
            histories.append((await client.ask(HISTORY, id=sae))["sae"]["trainingHistory"])
    return Trained(tiny_server.url, saes, histories)


async def test_saes_are_compared_by_what_the_address_says_and_measured_on_the_same_texts(
    trained: Trained,
) -> None:
    found = await drive(
        "compare_saes", trained.url, path="/compare", ids=trained.saes, names=NAMES, search="wide"
    )

    assert found["chosen"] == trained.saes
    steps = [[point["step"] for point in history] for history in trained.histories]
    assert found["last"] == [f"{of[-1]:,}" for of in steps]
    assert found["first"][0] == f"{steps[0][0]:,}"
    assert found["second"][0] == f"{steps[0][1]:,}"
    assert int(found["hovered"][0]) in steps[0][1:-1]
    for name, history in zip(NAMES, trained.histories, strict=True):
        assert f"{name}: {history[-1]['loss']:.3g}"[:-1] in found["description"]

    search = parse_qs(urlsplit(found["address"]).query)
    assert search["hide"] == [trained.saes[1]]
    assert set(search) == {"sae", "hide", "x", "logy", "metric", "smooth", "range", "diff"}
    again = found["again"]
    assert (again["isHidden"], again["along"], again["isLog"]) == ("false", "tokens", True)
    assert again["smoothing"] == "0.5"
    assert "Learning rate" in again["charts"]
    tokens = [point["tokenCount"] for point in trained.histories[0]]
    assert found["all"] == [tokens[0], tokens[-1]]
    assert tokens[0] < again["zoomed"][0] < again["zoomed"][1] < tokens[-1]

    assert {"Neurons", "K", "Epochs"} <= set(found["differences"])
    assert not {"Class", "Seed", "Batch size", "Layer"} & set(found["differences"])
    assert "texts 101 to 120" in found["measuredOn"]
    variance = next(row for row in found["rows"] if row.startswith("Variance explained"))
    assert variance.count("%") == 2
    assert "runs on cpu" in found["server"] and "language models" in found["server"]


async def test_compare_and_server_can_be_used_by_everybody(trained: Trained) -> None:
    compare = "/compare?" + "&".join(f"sae={sae}" for sae in trained.saes)
    missing = "/compare?sae=sae_nothing"
    paths = ["/compare", compare, missing, "/server"]
    until = {compare: "Save as CSV", missing: "There is no SAE"}
    found = await drive("open_pages", trained.url, path="/", paths=paths, until=until)

    pages = found["pages"]
    assert {path: page["findings"] for path, page in pages.items()} == {path: [] for path in pages}
    assert {path: page["overflow"] for path, page in pages.items()} == dict.fromkeys(pages, 0)
    assert "There is no SAE sae_nothing" in pages[missing]["text"]
    assert NAMES[0] in pages["/compare"]["text"]
