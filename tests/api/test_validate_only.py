"""trainSae(validateOnly: true) says what would be chosen, refuses what must be, and writes nothing."""

import math
from typing import Any

import pytest

from gql_server.services.app_context import AppContext
from tests.api.asking import ask
from tests.support.refusals import count_rows
from tests.support.serving import add_language_model, add_run

VALIDATE = """mutation($input: TrainSaeInput!) { trainSae(input: $input, validateOnly: true) { __typename
  ... on TrainingValidated { layer inputSize latentCount k learningRate l1Lambda device stepCount byteSize }
  ... on InvalidInput { fields { path } } ... on NotFound { missingId } } }"""


async def validated(server: AppContext, **given: Any) -> dict[str, Any]:
    """Return the answer, having checked that it left no rows."""
    before = await count_rows(server)
    found: dict[str, Any] = (await ask(server, VALIDATE, input=given))["trainSae"]
    assert await count_rows(server) == before
    return found


async def test_what_is_left_open_is_chosen_as_a_training_would(server: AppContext) -> None:
    run = await add_run(server, await add_language_model(server), token_count=1_000_000)
    found = await validated(server, activationRunId=run.id, k=4, latentCount=16_384, epochs=2)
    # 976 whole batches of 1,024 tokens, twice; four times as many neurons and 4.88 as many steps as measured.
    assert found.pop("learningRate") == pytest.approx(4e-3 * math.sqrt(400 / 1952 / 4))
    assert found == {
        "__typename": "TrainingValidated",
        "layer": "m_layers_1",
        "inputSize": 8,
        "latentCount": 16_384,
        "k": 4,
        "l1Lambda": 0.0,
        "device": "cpu",
        "stepCount": 1952,
        # Encoder and decoder in float32, and a snapshot of them with the optimizer's two averages.
        "byteSize": 2 * 8 * 16_384 * 4 * 4,
    }


async def test_what_is_asked_for_is_kept_and_what_the_activations_decide_is_left_open(
    server: AppContext,
) -> None:
    run = await add_run(server, await add_language_model(server))
    asked = {"activationRunId": run.id, "saeClass": "L1Sae", "batchSize": 100}
    found = await validated(server, **asked, learningRate=0.5)
    assert (found["learningRate"], found["l1Lambda"], found["k"]) == (0.5, None, None)
    assert found["latentCount"] == 8 * 8, "as many times the width as a training has by default"
    assert (await validated(server, **asked, l1Lambda=0.25))["l1Lambda"] == 0.25


async def test_what_a_training_would_be_refused_for_is_refused(server: AppContext) -> None:
    run = await add_run(server, await add_language_model(server))
    refused = await validated(server, activationRunId=run.id, batchSize=100, epochs=0)
    assert [field["path"] for field in refused["fields"]] == [["epochs"], ["k"]]
    assert (await validated(server, activationRunId="run_gone", k=4))["missingId"] == "run_gone"
