"""Launching work, and what there is to work on."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.faults.inputs import Inputs
from tests.faults.site import Site

_LAUNCHED = "... on JobLaunched { job { id result { ... on Node { id } } } }"
CAPTURE, TRAINING, INDEX = "capture", "training", "index"
KINDS = (CAPTURE, TRAINING, INDEX)


@dataclass(frozen=True)
class Order:
    """A job to launch: its kind, the name of its input, and what it works on."""

    kind: str
    name: str
    on: str
    """ID of the language model, run or SAE."""
    index_neurons: bool = False
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


async def launch(site: Site, inputs: Inputs, order: Order) -> tuple[str, str]:
    """Launch a job, however often the server ends meanwhile; returns its ID and its result's."""
    mutation, type, given = _mutation(inputs, order)
    launched = await site.do(mutation, _LAUNCHED, input=(type, given | {"idempotencyKey": order.key}))
    assert launched["__typename"] == "JobLaunched", launched
    return str(launched["job"]["id"]), str(launched["job"]["result"]["id"])


def _mutation(inputs: Inputs, order: Order) -> tuple[str, str, dict[str, Any]]:
    if order.kind == CAPTURE:
        given = inputs.captures[order.name] | {"languageModelId": order.on}
        return "captureActivations", "CaptureActivationsInput!", given
    if order.kind == TRAINING:
        given = inputs.trainings[order.name][1] | {"activationRunId": order.on}
        return "trainSae", "TrainSaeInput!", given | {"indexNeurons": order.index_neurons}
    # As many top texts as a training asks for, whose index is one of the same.
    return "indexNeurons", "IndexNeuronsInput!", {"saeId": order.on}
