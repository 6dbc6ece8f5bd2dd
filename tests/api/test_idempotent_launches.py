"""A launch that is sent twice with a key, after an answer that was lost for instance, makes one job."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from gql_server.artifacts.datasets import write_texts
from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from models import ActivationRun, Job, NeuronIndex, Sae
from tests.api.asking import ask
from tests.support.serving import LAYERS, add_language_model, add_run, add_sae

SHOWN = """{ __typename
  ... on JobLaunched { outcome job { id kind } }
  ... on InvalidInput { fields { path message } }
  ... on Conflict { code conflictingId } }"""
TEXTS = {"texts": ["a text", "another"]}
LAUNCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "captureActivations": (
        {"languageModelId": "lm", "layers": [LAYERS[0]["name"]], "dataset": TEXTS, "maxLength": 8},
        {"dataset": {"texts": ["a text", "a third"]}},
    ),
    "trainSae": ({"activationRunId": "run", "latentCount": 16, "k": 2, "batchSize": 4}, {"latentCount": 17}),
    "indexNeurons": ({"saeId": "sae"}, {"topTextsPerNeuron": 3}),
    "evaluateSae": ({"saeId": "sae", "dataset": TEXTS}, {"sampleOffset": 1}),
    "exportSae": ({"saeId": "sae", "format": "SAE_LENS"}, {"saeId": "other"}),
    "loadLanguageModel": ({"id": "lm"}, {"id": "other lm"}),
}
"""What is sent, and what of it another request has in its place."""


@pytest.fixture
async def made(server: AppContext) -> dict[str, str]:
    """Give the IDs of what is launched on, by how it is called above."""
    lm, other = await add_language_model(server), await add_language_model(server, "other")
    run = await add_run(server, lm, layers=[{"name": LAYERS[0]["name"], "hidden_size": 8}])
    write_texts(artifacts.dataset_directory(server.settings, run.id), TEXTS["texts"])
    columns: dict[str, Any] = {"input_size": 8, "layer": LAYERS[0]["name"], "latent_count": 16}
    saes = [await add_sae(server, run, name=name, **columns) for name in ("one", "two")]
    return {"lm": lm.id, "other lm": other.id, "run": run.id, "sae": saes[0].id, "other": saes[1].id}


def named(given: dict[str, Any], made: dict[str, str]) -> dict[str, Any]:
    return {name: made.get(str(value), value) for name, value in given.items()}


async def launch(server: AppContext, mutation: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return what a launch comes to."""
    if mutation == "loadLanguageModel":
        field = "launched: loadLanguageModel(id: $id, idempotencyKey: $key)"
        document = f"mutation($id: ID!, $key: String) {{ {field} {SHOWN} }}"
        data = await ask(server, document, id=given["id"], key=given["idempotencyKey"])
    else:
        input_type = mutation[0].upper() + mutation[1:] + "Input"
        document = f"mutation($input: {input_type}!) {{ launched: {mutation}(input: $input) {SHOWN} }}"
        data = await ask(server, document, input=given)
    launched: dict[str, Any] = data["launched"]
    return launched


async def count(server: AppContext) -> list[int | None]:
    async with server.database.read() as session:
        tables = (Job, ActivationRun, Sae, NeuronIndex)
        return [await session.scalar(select(func.count()).select_from(table)) for table in tables]


@pytest.mark.parametrize("mutation", LAUNCHES)
async def test_the_same_launch_sent_twice_at_once_makes_one_job(
    server: AppContext, made: dict[str, str], mutation: str
) -> None:
    before = await count(server)
    first, other = (
        {name: made.get(str(value), value) for name, value in one.items()} for one in LAUNCHES[mutation]
    )
    keyed = first | {"idempotencyKey": "once"}
    launched = await asyncio.gather(*(launch(server, mutation, keyed) for _ in range(2)))
    assert {one["outcome"] for one in launched} == {"CREATED", "REPLAYED"}, launched
    (job,) = {one["job"]["id"] for one in launched}
    after = await count(server)
    assert after[0] == (before[0] or 0) + 1
    assert await launch(server, mutation, keyed) == {
        "__typename": "JobLaunched",
        "outcome": "REPLAYED",
        "job": launched[0]["job"],
    }
    assert await launch(server, mutation, keyed | other) == {
        "__typename": "Conflict",
        "code": "IDEMPOTENCY_KEY_MISMATCH",
        "conflictingId": job,
    }
    assert await count(server) == after
    texts = server.settings.artifact_dir.rglob("texts.arrow")
    assert len(list(texts)) == (2 if mutation in ("captureActivations", "evaluateSae") else 1)


@pytest.mark.parametrize("mutation", LAUNCHES)
async def test_a_key_is_neither_empty_nor_long(
    server: AppContext, made: dict[str, str], mutation: str
) -> None:
    before = await count(server)
    given = named(LAUNCHES[mutation][0], made)
    for key in ("", "k" * 201):
        refused = await launch(server, mutation, given | {"idempotencyKey": key})
        assert [field["path"] for field in refused["fields"]] == [["idempotencyKey"]]
    assert await count(server) == before


async def test_each_kind_of_launch_that_a_client_can_send_is_tried_here(server: AppContext) -> None:
    document = """{ __schema { mutationType { fields {
      name args { name type { name ofType { name } } } type { ofType { name } } } } } }"""
    fields = (await ask(server, document))["__schema"]["mutationType"]["fields"]
    launching = {field["name"] for field in fields if field["type"]["ofType"]["name"] == "LaunchResult"}
    # A retry launches no other job; services/test_sae_imports.py has files to import.
    assert launching - {"retryJob", "importSae"} == set(LAUNCHES)
