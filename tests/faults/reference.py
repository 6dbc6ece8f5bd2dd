"""The same work with nobody killing anything: what its results are compared to."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.client import load_model
from tests.faults.follower import Follower
from tests.faults.inputs import Inputs, Scale, inputs, two_layers
from tests.faults.orders import CAPTURE, INDEX, TRAINING, Order, launch
from tests.faults.site import Site


@dataclass
class Reference:
    """The results' IDs by the name of their input, and how long each kind of job takes at most."""

    directory: Path
    inputs: Inputs
    runs: dict[str, str] = field(default_factory=dict)
    saes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


async def make_reference(site: Site, model: Path, scale: Scale, *, brief: bool) -> Reference:
    """Do all the work once."""
    await site.start()
    language_model_id = await load(site, model)
    layers = await two_layers(site, language_model_id)
    reference = Reference(site.directory, inputs(layers, scale, brief=brief))
    for name in reference.inputs.captures:
        reference.runs[name] = await _work(site, reference, Order(CAPTURE, name, language_model_id))
    for name, (capture, _) in reference.inputs.trainings.items():
        reference.saes[name] = await _work(site, reference, Order(TRAINING, name, reference.runs[capture]))
        await _work(site, reference, Order(INDEX, name, reference.saes[name]))
    await site.stop()
    return reference


async def load(site: Site, model: Path) -> str:
    """Add the language model and load it, so that its layers are known; returns its ID."""
    async with site.client() as client:
        return await load_model(client, str(model), "model")


async def _work(site: Site, reference: Reference, order: Order) -> str:
    job_id, result_id = await launch(site, reference.inputs, order)
    follower = Follower(site, job_id, news := asyncio.Condition())
    async with news:
        await news.wait_for(lambda: follower.status == "RUNNING" or follower.ended)
        start = time.monotonic()
        await news.wait_for(lambda: follower.ended)
    await follower.finish()
    assert follower.status == "SUCCEEDED", follower.statuses[-1]
    seconds = time.monotonic() - start
    reference.seconds[order.kind] = max(seconds, reference.seconds.get(order.kind, 0.0))
    return result_id
