"""The tour, given of scripted answers."""

import io
import socket
from functools import partial
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from rich.text import Text
from starlette.applications import Starlette
from starlette.routing import Route

from gql_server.api.transport import explorer
from gql_server.settings import Settings
from gql_server.tour import launch, show, steering, steps
from gql_server.tour.client import TourError, shows_explorer
from gql_server.tour.plain_console import PlainConsole
from tests.tour.fake_api import FakeApi, neuron

URL = "http://127.0.0.1:8000"


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def give(api: FakeApi, console: Console) -> None:
    await steps.give(api, URL, console, Path("/models/SmolLM2.gguf"))


async def test_the_tour_shows_metrics_neurons_texts_and_what_to_open(console: Console) -> None:
    api = FakeApi()

    await give(api, console)

    text = printed(console)
    for expected in (
        "explained variance",
        "0.750",
        "60,000 tokens",
        "3,456 tokens",
        "0.876",
        "– recovered",
        "' raise'",
        "'\\n'",
        "The exception is raised.",
        "“exception”",
    ):
        assert expected in text
    assert "an exception is raised" in text
    assert "it is so" in text
    assert f"{URL}/graphql" in text
    assert "Loading [it]." in text


async def test_the_tour_names_the_explorers_pages_of_the_sae_and_of_the_neuron_that_it_has_steered(
    console: Console,
) -> None:
    await give(FakeApi(), console)

    lines = printed(console).splitlines()
    assert f"  this SAE: {URL}/saes/sae_1" in lines
    assert f"  the neuron that we steered: {URL}/saes/sae_1/neurons/2" in lines


async def test_the_tour_does_not_name_an_explorer_that_is_not_there(console: Console) -> None:
    await give(FakeApi(explorer=False), console)

    text = printed(console)
    assert "explorer" not in text
    assert f"{URL}/saes" not in text
    assert f"{URL}/graphql" in text


def test_an_address_is_not_broken_on_a_narrow_terminal() -> None:
    console = Console(width=40, file=io.StringIO())

    show.explorer(console, f"{URL}/saes/sae_01M8PS3DR6YZ02PZRE80P0C2J3", 3290)

    assert f"{URL}/saes/sae_01M8PS3DR6YZ02PZRE80P0C2J3/neurons/3290" in printed(console)


@pytest.mark.parametrize(
    ("built", "on", "shown"), [(True, True, True), (False, True, False), (True, False, False)]
)
async def test_an_explorer_is_there_where_it_is_built_and_switched_on(
    built: bool, on: bool, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "DIRECTORY", tmp_path)
    if built:
        (tmp_path / "index.html").write_text('<script src="./assets/index-abc.js"></script>')
    settings = Settings(artifact_dir=tmp_path, explorer=on)
    app = Starlette(routes=[Route("/", partial(explorer.page, settings=settings))])

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        assert await shows_explorer(client) is shown


async def test_it_captures_a_middle_layer_and_steers_the_neuron_that_it_has_named(console: Console) -> None:
    api = FakeApi()

    await give(api, console)

    asked = dict(api.asked)
    assert asked["addLanguageModel"]["source"] == {"path": "/models/SmolLM2.gguf"}
    assert asked["captureActivations"]["layers"] == ["layers_9"]
    assert (asked["setConcept"]["neuronIndex"], asked["setConcept"]["name"]) == (2, "“exception”")
    assert asked["generate"]["steering"]["source"]["edits"][0]["neuronIndex"] == 2


async def test_a_second_tour_sends_the_same_keys(console: Console) -> None:
    first, second = FakeApi(), FakeApi()
    await give(first, console)
    await give(second, console)

    keys = [
        [input["idempotencyKey"] for name, input in api.asked if name == "trainSae"]
        for api in (first, second)
    ]
    assert keys[0] == keys[1]


async def test_a_refusal_ends_the_tour_with_its_message(console: Console) -> None:
    with pytest.raises(TourError, match="That name is taken"):
        await give(FakeApi(refusals={"addLanguageModel": "That name is taken."}), console)


async def test_a_failed_job_ends_the_tour_with_its_error(console: Console) -> None:
    with pytest.raises(TourError, match="Capturing activations did not succeed: The disk is full"):
        await give(FakeApi(statuses=("SUCCEEDED", "FAILED")), console)


async def test_a_job_of_an_earlier_tour_that_failed_is_tried_again(console: Console) -> None:
    api = FakeApi(statuses=("SUCCEEDED", "FAILED"), outcome="REPLAYED")

    await give(api, console)

    assert ("retryJob", {"id": "job_1"}) in api.asked


def test_a_neuron_is_named_by_the_word_that_its_texts_peak_on() -> None:
    assert steering.peak_word(neuron(2)) == "exception"
    assert steering.peak_word(neuron(0)) is None
    assert [found["index"] for found in steering.nameable([neuron(i) for i in range(5)], 3)] == [2, 0, 1]


async def test_steering_stops_at_the_weakest_edit_that_brings_the_word() -> None:
    api = FakeApi(write=lambda bias: " an exception" if bias > 5 else " it is so")

    steered = await steering.steer(api, "sae_1", neuron(2), "exception")

    assert (steered.strength, steered.bias) == (1.5, 6.0)


async def test_steering_stops_before_the_text_goes_round_in_circles() -> None:
    api = FakeApi(write=lambda bias: " what what what what" if bias > 5 else " it is so")

    steered = await steering.steer(api, "sae_1", neuron(2), "exception")

    assert (steered.strength, steered.steered) == (1.0, " it is so")


def test_of_a_long_text_what_is_around_the_peak_is_shown() -> None:
    tokens = [{"token": f" {index}", "activation": 2.0 if index == 30 else 0.0} for index in range(60)]

    text = show.highlighted(tokens)

    assert text.plain.startswith("… 23 ")
    assert text.plain.endswith(" 36")
    assert [text.plain[span.start : span.end] for span in text.spans] == [" 30"]


def test_a_port_in_use_is_not_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert launch._free_port("127.0.0.1", port) not in (0, port)


def test_the_demo_says_why_its_server_died(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "model_file", lambda: Path("/models/SmolLM2.gguf"))
    settings = Settings(artifact_dir=tmp_path, port=0)
    monkeypatch.setenv("GQL_SERVER_WORKERS", "none at all")

    assert launch.demo(settings, exit_when_done=True, console=console) == 1
    assert "The server ended with exit status" in printed(console)
    assert "workers" in printed(console)


def test_the_table_of_neurons_keeps_its_numbers_on_a_narrow_terminal() -> None:
    tokens = [{"token": f" {place}", "activation": float(place)} for place in range(60)]
    statistics = {"index": 1234, "frequency": 0.0125, "maxActivation": 116.25}
    neuron = statistics | {"promotedTokens": None, "topTexts": [{"tokens": tokens}]}
    console = Console(width=80, record=True, file=io.StringIO())
    show.neurons(console, [neuron])
    text = console.export_text()
    assert "1234" in text
    assert "1.25%" in text
    assert "116.2" in text
    assert " 59" in text


def test_what_a_model_says_does_nothing_to_the_terminal() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, width=80, force_terminal=True, color_system="standard")
    said = "a\x1b[2J\x07\x9b1mb\u202ec\rd"
    show.side_by_side(console, said, said, said)
    console.print(Text(said, style="bold"))
    written = file.getvalue()
    assert "\x1b[1m" in written, "styles of its own are there"
    for acting in ("\x1b[2J", "\x07", "\x9b", "\u202e", "\r"):
        assert acting not in written
