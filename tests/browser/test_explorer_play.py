"""The explorer's playground and its contrast of texts in a real browser, on a small SAE."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gql_server.api.transport import explorer
from tests.browser.browsing import NEEDS_BROWSER, drive
from tests.browser.small_sae import SmallSae
from tests.e2e.client import Api, api
from tests.support.server_process import RunningServer

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not explorer.is_built(), reason="needs the explorer's bundle: make explorer"),
]

PROMPT = "The list is sorted by its keys"
LONGEST = 450
TEXTS = {
    "a": ["for x in range(3)", "if the value is false"],
    "b": ["a string has quotes", "an escape sequence", "a raw string"],
}
ACTIVATIONS = """... on NeuronActivations { prompts { tokens { label } rows { values neuron { index } } } }"""
ATTRIBUTION = """... on Attribution { neurons { effect ablationEffect neuron { index } } }"""
FIRED = "... on TopNeurons { prompts { neurons { neuron { index frequency } } } }"
CONTRAST = """... on ContrastedNeurons { neurons { difference meanActivationA meanActivationB
    neuron { index } } }"""


@pytest.fixture(scope="module")
async def client(tiny_server: RunningServer) -> AsyncIterator[Api]:
    """Give another client of the server."""
    async with api(tiny_server.url) as client:
        yield client


@pytest.fixture(scope="module")
def sae(small_sae: SmallSae) -> SmallSae:
    """Give it a short name."""
    return small_sae


def number(text: str) -> float:
    """Return the number that a page shows, in four significant digits."""
    return float(text.replace(",", ""))


def index(name: str) -> int:
    """Return the neuron that a name begins with."""
    found = re.match(r"#(\d+)", name)
    assert found
    return int(found[1])


def outputs(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return each variant's text, as the server gave it at the end."""
    finished = [event["output"] for event in events if event["__typename"] == "GenerationFinished"]
    return sorted((output["variant"], output["text"]) for output in finished)


async def test_both_texts_are_written_together_and_a_link_writes_them_again(
    tiny_server: RunningServer, client: Api, sae: SmallSae
) -> None:
    play = f"/saes/{sae.id}/play?edits={sae.neuron}:1:{sae.strong}&watch={sae.other}&max=24"
    paths = [f"{play}&prompt={quote(PROMPT)}", f"{play}&prompt={quote('a ' + PROMPT)}&temperature=0.9"]
    long = f"{play}&prompt=strings&max={LONGEST}".replace("&max=24", "")
    found = await drive("steer", tiny_server.url, path="/", paths=paths, long=long)

    for run in found["runs"]:
        tokens = [event for event in run["events"] if event["__typename"] == "GenerationToken"]
        assert {event["variant"] for event in tokens[:2]} == {"BASELINE", "STEERED"}
        assert run["texts"]["baseline"] != run["texts"]["steered"]
        assert outputs(run["again"]["events"]) == outputs(run["events"])
        assert run["again"]["texts"] == run["texts"]
        query = parse_qs(urlsplit(run["link"]).query)
        assert query["seed"] and query["run"] == ["1"]
    greedy, drawn = found["runs"]
    assert greedy["texts"] != drawn["texts"]

    indices = list(dict.fromkeys(index(cell) for cell in greedy["cells"]))
    asked = await client.get(
        "neuronActivations",
        ACTIVATIONS,
        saeId=("ID!", sae.id),
        prompts=("[String!]!", [PROMPT]),
        neuronIndices=("[Int!]!", indices),
    )
    expected = [value for row in asked["prompts"][0]["rows"] for value in row["values"]]
    assert {sae.neuron, sae.other} <= set(indices)
    assert max(expected) > 0
    shown = [number(cell.rsplit(": ", 1)[1]) for cell in greedy["cells"]]
    assert shown == pytest.approx(expected, rel=1e-3)

    at_stop, later = found["stopped"]
    assert 0 < at_stop == later < LONGEST
    assert found["refused"]["invalid"] == "true"
    assert "A temperature is 0" in found["refused"]["told"]
    assert [re.sub(r":.*", "", run) for run in found["earlier"]] == ["Run 1"]


async def test_an_explanation_leads_to_an_edit_that_can_be_saved_loaded_and_deleted(
    tiny_server: RunningServer, client: Api, sae: SmallSae
) -> None:
    path = f"/saes/{sae.id}/play?prompt={quote(PROMPT)}"
    found = await drive("explain", tiny_server.url, path=path, name="turned off")

    asked = await client.get(
        "attributeNeurons",
        ATTRIBUTION,
        saeId=("ID!", sae.id),
        prompt=("String!", PROMPT),
        contrast=("TokenInput", {"text": " the"}),
    )
    expected = asked["neurons"]
    assert [index(name) for name, *_ in found["rows"]] == [one["neuron"]["index"] for one in expected]
    assert len(expected) > 1
    for (_, effect, ablation), one in zip(found["rows"], expected, strict=True):
        assert number(effect) == pytest.approx(one["effect"], rel=1e-3)
        if one["ablationEffect"] is not None:
            assert number(ablation) == pytest.approx(one["ablationEffect"], rel=1e-3)
    arguments = {"saeId": ("ID!", sae.id), "prompts": ("[String!]!", [PROMPT]), "first": ("Int", 100)}
    fired = await client.get("topNeurons", FIRED, **arguments)
    dense = [one for one in fired["prompts"][0]["neurons"] if one["neuron"]["frequency"] > 0.01]
    assert number(found["hidden"].split()[0]) == len(dense) > 0
    first = expected[0]["neuron"]["index"]
    assert parse_qs(urlsplit(found["address"]).query)["edits"] == [f"{first}:0:0"]
    assert [index(text) for text in found["loaded"]] == [first]
    assert found["kept"] == found["loaded"]
    configs = "query($id: ID!) { sae(id: $id) { conceptConfigs { nodes { id } } } }"
    assert (await client.ask(configs, id=sae.id))["sae"]["conceptConfigs"]["nodes"] == []


async def test_a_contrast_leads_to_neurons_and_to_the_playground(
    tiny_server: RunningServer, client: Api, sae: SmallSae
) -> None:
    path = f"/saes/{sae.id}/contrast"
    long = "\n".join(f"text {place} of many that are too long" + " all" * 10 for place in range(60))
    found = await drive("contrast", tiny_server.url, path=path, texts=TEXTS, long=long)

    for shown, one, other in (("A", "a", "b"), ("B", "b", "a")):
        asked = await client.get(
            "contrastNeurons",
            CONTRAST,
            saeId=("ID!", sae.id),
            textsA=("[String!]!", TEXTS[one]),
            textsB=("[String!]!", TEXTS[other]),
            first=("Int!", 30),
        )
        expected = asked["neurons"]
        rows = found["shown"][shown]
        assert [index(row[0]) for row in rows] == [one["neuron"]["index"] for one in expected]
        figures = [[one["difference"], one["meanActivationA"], one["meanActivationB"]] for one in expected]
        assert [[number(cell) for cell in row[1:]] for row in rows] == [
            pytest.approx(three, rel=1e-3) for three in figures
        ]
    first = index(found["shown"]["A"][0][0])
    assert found["address"] == f"{tiny_server.url}/saes/{sae.id}/neurons/{first}"
    assert [len(texts) for texts in found["fires"].values()] == [2, 3]
    assert any("activation" in title for title in found["fires"]["a"][0])
    assert parse_qs(urlsplit(found["linked"]).query) == {**TEXTS, "neuron": [str(first)]}
    steering = parse_qs(urlsplit(found["steering"]).query)
    assert steering["edits"][0].startswith(f"{first}:1:")
    assert steering["prompt"] == [TEXTS["b"][0]]
    assert len(found["kept"]) < 200
    assert "another browser tab" in found["lost"]


async def test_the_keyboard_alone_leads_from_a_prompt_to_an_explanation_and_on(
    tiny_server: RunningServer, sae: SmallSae
) -> None:
    play = f"/saes/{sae.id}/play?max=8"
    found = await drive("play_by_keyboard", tiny_server.url, path="/jobs", play=play, saeId=sae.id)

    assert found["cell"].startswith("gridcell #")
    assert found["edit"].startswith("button Edit #")
    assert float(found["after"]) > float(found["before"])
    assert found["chosen"] == 1
    assert found["turned"].startswith("button Turn #")
    assert "Contrast two sets of texts" in found["offered"]
    assert any(place.startswith("Jobs") for place in found["recent"])


async def test_the_pages_can_be_used_by_everybody(tiny_server: RunningServer, sae: SmallSae) -> None:
    play = f"/saes/{sae.id}/play?prompt={quote(PROMPT)}&edits={sae.neuron}:1:{sae.strong}&max=12&run=1"
    texts = "&".join(f"{name}={quote(text)}" for name, some in TEXTS.items() for text in some)
    contrast = f"/saes/{sae.id}/contrast?{texts}&neuron={sae.neuron}"
    missing = "/saes/sae_nothing/play"
    found = await drive(
        "open_pages",
        tiny_server.url,
        path="/",
        paths=[play, contrast, missing],
        until={play: "Done.", contrast: "It fires on", missing: "There is no such SAE"},
    )

    pages = found["pages"]
    assert "There is no such SAE" in pages[missing]["text"]
    assert {path: page["findings"] for path, page in pages.items()} == {path: [] for path in pages}
    assert {path: page["overflow"] for path, page in pages.items()} == dict.fromkeys(pages, 0)
