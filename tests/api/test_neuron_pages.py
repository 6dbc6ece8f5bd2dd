"""A list of neurons reads their figures at once, if they are asked for, and shows what each one shows."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gql_server import ids
from gql_server.services import neuron_tensors
from gql_server.services.app_context import AppContext
from models import NeuronIndex, Sae
from models.enums import ArtifactStatus
from tests.api.asking import ask, execute
from tests.support.artifact_files import add_neuron_index
from tests.support.serving import add_language_model, add_run, add_sae

FIGURES = "frequency maxActivation meanActivation dead"


@pytest.fixture
async def sae(server: AppContext) -> Sae:
    run = await add_run(server, await add_language_model(server))
    return await add_sae(server, run, latent_count=4)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Give a list of which neurons' statistics are read together."""
    reads: list[list[int]] = []
    statistics = neuron_tensors.statistics

    def counted(path: Any, neurons: list[int]) -> Any:
        reads.append(list(neurons))
        return statistics(path, neurons)

    monkeypatch.setattr(neuron_tensors, "statistics", counted)
    return reads


@pytest.mark.parametrize(
    "selection",
    [
        f"neurons {{ nodes {{ index {FIGURES} }} }}",
        f"neurons {{ edges {{ node {{ index ... @include(if: true) {{ {FIGURES} }} }} }} }}",
        "neurons { nodes { index ...figures } }",
    ],
)
async def test_a_list_shows_what_each_neuron_alone_shows(
    server: AppContext, sae: Sae, read: list[list[int]], selection: str
) -> None:
    await add_neuron_index(server, sae)
    fragment = f"fragment figures on Neuron {{ {FIGURES} }}" if "...figures" in selection else ""
    document = f"query($id: ID!) {{ sae(id: $id) {{ {selection} }} }} {fragment}"
    listed = (await ask(server, document, id=sae.id))["sae"]["neurons"]
    assert read == [[0, 1, 2, 3]]
    nodes = listed.get("nodes") or [edge["node"] for edge in listed["edges"]]
    single = f"query($id: ID!, $index: Int!) {{ neuron(saeId: $id, index: $index) {{ index {FIGURES} }} }}"
    alone = [(await ask(server, single, id=sae.id, index=index))["neuron"] for index in range(4)]
    assert nodes == alone
    assert [node["dead"] for node in nodes] == [False, True, False, False]


async def test_a_list_that_does_not_ask_for_figures_reads_none(
    server: AppContext, sae: Sae, read: list[list[int]]
) -> None:
    await add_neuron_index(server, sae)
    document = "query($id: ID!) { sae(id: $id) { neurons { nodes { index concept { name } } } } }"
    await ask(server, document, id=sae.id)
    assert read == []


async def test_without_an_index_the_figures_are_null(server: AppContext, sae: Sae) -> None:
    query = f"query($id: ID!) {{ sae(id: $id) {{ neurons {{ nodes {{ {FIGURES} }} }} }} }}"
    nodes = (await ask(server, query, id=sae.id))["sae"]["neurons"]["nodes"]
    assert nodes == [dict.fromkeys(FIGURES.split())] * 4


async def test_where_the_index_has_gone_each_figure_says_so(
    server: AppContext, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_neuron_index(server, sae)
    monkeypatch.setattr(neuron_tensors, "path_of", lambda settings, id: settings.artifact_dir / "gone")
    query = "query($id: ID!) { sae(id: $id) { neurons { nodes { index frequency dead } } } }"
    result = await execute(server, query, id=sae.id)
    assert result.data is not None
    assert result.data["sae"]["neurons"]["nodes"][1] == {"index": 1, "frequency": None, "dead": None}
    assert {(error.extensions or {}).get("code") for error in result.errors or []} == {"CONFLICT"}
    assert {tuple(error.path or ())[-1] for error in result.errors or []} == {"frequency", "dead"}


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [(["READY", "FAILED"], 0), (["FAILED", "READY"], 1), (["FAILED", "FAILED"], 1), (["READY", "READY"], 1)],
)
async def test_the_index_of_an_sae_is_the_newest_that_is_ready_else_the_newest(
    server: AppContext, sae: Sae, statuses: list[str], shown: int
) -> None:
    indexes = [
        NeuronIndex(
            id=ids.new(ids.NEURON_INDEX),
            sae_id=sae.id,
            status=ArtifactStatus[status],
            top_texts_per_neuron=3 + day,
            created_at=datetime(2026, 1, 1 + day, tzinfo=UTC),
        )
        for day, status in enumerate(statuses)
    ]
    async with server.database.write() as session:
        session.add_all(reversed(indexes))
    document = "query($id: ID!) { sae(id: $id) { neuronIndex { status topTextsPerNeuron } } }"
    index = (await ask(server, document, id=sae.id))["sae"]["neuronIndex"]
    assert index == {"status": statuses[shown], "topTextsPerNeuron": 3 + shown}
