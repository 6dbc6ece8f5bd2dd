"""Computing elsewhere than on the CPU, as far as a machine without a GPU can tell.

torch's meta device has shapes and no numbers: an operation that mixes devices fails there, and so does
whatever reads a number, for which a GPU's work would have to be waited for.
"""

import pytest
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.devices import choose_device, devices
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.training.forward import forward_fn
from gql_server.compute.training.metrics import DeadNeurons, IntervalMetrics
from gql_server.compute.worker.context import TaskError
from gql_server.compute.worker.task_runner import TaskRunner
from gql_server.protocol.tasks import UnloadLanguageModel
from tests.compute.conftest import RecordingContext

N_INPUTS, N_LATENTS, BATCH = 64, 4096, 128


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("first", "listed"),
    [
        (None, ["cuda:0", "cuda:1", "cpu"]),
        ("cuda", ["cuda:0", "cuda:1", "cpu"]),
        ("cuda:1", ["cuda:1", "cuda:0", "cpu"]),
        ("cpu", ["cpu", "cuda:0", "cuda:1"]),
        ("cuda:2", ["cuda:0", "cuda:1", "cpu"]),
    ],
)
def test_the_device_of_the_setting_comes_first(first: str | None, listed: list[str]) -> None:
    assert devices(first) == listed


@pytest.mark.usefixtures("two_gpus")
def test_a_device_is_the_one_asked_for_or_the_best() -> None:
    assert [choose_device(asked) for asked in (None, "cuda", "cuda:1", "cpu")] == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cpu",
    ]
    with pytest.raises(TaskError, match=r"no device 'cuda:2' here; there are cuda:0, cuda:1, cpu\."):
        choose_device("cuda:2")


def test_without_a_gpu_a_setting_that_names_one_is_refused() -> None:
    tools = TaskRunner(lambda change: None, device="cuda")
    assert tools.describe().devices == devices()
    with pytest.raises(TaskError, match=r"WORKER_DEVICE is wrong\. There is no device 'cuda' here"):
        tools.do(UnloadLanguageModel("lm_a"), RecordingContext())


def test_a_training_step_reads_nothing_from_its_device() -> None:
    sae = SaeClasses().get("BiasedTopKSae").build(N_LATENTS, N_INPUTS, 8, "meta")
    parameters = list(sae.sae_engine.parameters())
    optimizer = torch.optim.AdamW(parameters)
    metrics, dead = IntervalMetrics(), DeadNeurons(N_LATENTS, BATCH)
    way = forward_fn(sae)
    for _ in range(2):
        x = torch.randn(BATCH, N_INPUTS, device="meta")
        passed = way(x)
        loss = torch.nn.functional.mse_loss(passed.x_hat, x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            metrics.update(x, passed.x_hat, passed.active_count, loss)
        dead.update(passed.fired, BATCH)
        assert dead.silent_for(BATCH).device.type == "meta"
    assert all(one.grad is not None and one.grad.device.type == "meta" for one in parameters)


def test_encoding_stays_on_its_device() -> None:
    sae = SaeClasses().get("BiasedTopKSae").build(N_LATENTS, N_INPUTS, 8, "meta")
    chosen = sae.sae_engine.active(torch.randn(BATCH, N_INPUTS, device="meta"))
    latents = sae.sae_engine.activate_at(chosen.values, chosen.pattern)
    assert latents.device.type == chosen.rows.device.type == "meta"
    assert latents.shape == (BATCH * 8,)
