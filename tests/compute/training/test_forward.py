"""A step by active latents is the step over all latents: the same weights after 50 of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes import sparse_latents
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.engine import ForwardOutput
from gql_server.compute.training.forward import dense_forward, forward_fn
from gql_server.compute.training.strategies import TrainingStrategy, auxiliary_loss
from tests.compute.dummy_sae import DummySae

from mi_crow.mechanistic.sae.sae import Sae

N_INPUTS, N_LATENTS, N_STEPS, BATCH = 24, 700, 50, 64
CLASSES = [(known.name, 4 if known.needs_k else None) for known in SaeClasses().describe()]


def batches(n: int, dtype: torch.dtype) -> list[Tensor]:
    """Return batches of tokens that have a few directions each, off the origin."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(60, N_INPUTS, generator=generator)
    made = []
    for _ in range(n):
        shares = torch.rand(BATCH, 60, generator=generator) * (
            torch.rand(BATCH, 60, generator=generator) < 0.06
        )
        made.append((shares @ directions + 1).to(dtype))
    return made


def trained(name: str, k: int | None, dtype: torch.dtype, sparse: bool) -> tuple[Sae, list[ForwardOutput]]:
    """Take the steps with all terms of a loss: of the reconstruction, L1 and dead neurons."""
    torch.manual_seed(0)
    sae = SaeClasses().get(name).build(N_LATENTS, N_INPUTS, k, "cpu")
    sae.sae_engine.to(dtype)
    rows = batches(N_STEPS, dtype)
    strategy = TrainingStrategy(sae)
    strategy.start(torch.cat(rows[:8]))
    engine: Any = sae.sae_engine
    engine.train()
    way: Callable[[Tensor], ForwardOutput] = forward_fn(sae) if sparse else lambda x: dense_forward(engine, x)
    optimizer = torch.optim.Adam(engine.parameters(), lr=1e-3)
    dead = torch.zeros(N_LATENTS, dtype=torch.bool)
    dead[::9] = True
    passes = []
    for row in rows:
        x = row * strategy.scale
        optimizer.zero_grad()
        passes.append(way(x))
        loss = (passes[-1].x_hat - x).square().mean() + 0.01 * passes[-1].mean_latent
        (loss + auxiliary_loss(x, passes[-1], dead)).backward()
        optimizer.step()
        strategy.after_step()
    return sae, passes


@pytest.mark.parametrize(("name", "k"), CLASSES)
def test_weights_after_50_sparse_steps_are_those_of_dense_ones_in_float64(name: str, k: int | None) -> None:
    (sparse, _), (dense, _) = (trained(name, k, torch.float64, way) for way in (True, False))
    pairs = zip(sparse.sae_engine.state_dict().items(), dense.sae_engine.state_dict().values(), strict=True)
    for (weights_name, weights), expected in pairs:
        assert weights.dtype == torch.float64 or weights.numel() == 1, weights_name
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-8, msg=weights_name)


@pytest.mark.parametrize(("name", "k"), CLASSES)
def test_sparse_steps_explain_as_much_as_dense_ones_in_float32(name: str, k: int | None) -> None:
    x = torch.cat(batches(N_STEPS, torch.float64)).numpy()
    explained = []
    for way in (True, False):
        sae, passes = trained(name, k, torch.float32, way)
        scale = activation_scale_of(sae)
        x_hat = torch.cat([one.x_hat.detach() for one in passes]).double().numpy() / scale
        explained.append(1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())
    assert explained[0] == pytest.approx(explained[1], abs=1e-3)


def activation_scale_of(sae: Sae) -> float:
    """Return the scale that the training chose for these batches."""
    strategy = TrainingStrategy(sae)
    strategy.start(torch.cat(batches(8, torch.float32)))
    return strategy.scale


@pytest.mark.parametrize(("name", "k"), CLASSES)
def test_what_a_pass_tells_of_latents_is_what_the_dense_ones_say(name: str, k: int | None) -> None:
    sae, _ = trained(name, k, torch.float64, True)
    engine: Any = sae.sae_engine
    (x,) = batches(1, torch.float64)
    threshold = engine.threshold.detach().clone() if name == "BatchTopKSae" else None
    _, latents, x_hat = engine(x)
    if threshold is not None:  # A pass in training moves it.
        engine.threshold.copy_(threshold)
    output = forward_fn(sae)(x)
    torch.testing.assert_close(output.x_hat, x_hat)
    assert int(output.active_count) == int((latents != 0).sum()) > 0
    assert torch.equal(output.fired, (latents != 0).any(dim=0))
    # Of gates it is what they let through that is penalized, not how large latents are.
    penalized = torch.relu(engine.pre_activations(x)) if name == "GatedSae" else latents
    assert float(output.mean_latent.detach()) == pytest.approx(float(penalized.detach().abs().mean()))
    torch.testing.assert_close(
        output.pre_activations(torch.tensor([5, 0])), engine.encode(x)[0][:, [5, 0]], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(("name", "k"), CLASSES)
def test_the_size_of_chunks_changes_nothing(
    name: str, k: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = trained(name, k, torch.float64, True)
    monkeypatch.setattr(sparse_latents, "MAX_DENSE_LATENTS", 10 * N_LATENTS)
    cut, _ = trained(name, k, torch.float64, True)
    for weights, expected in zip(cut.sae_engine.parameters(), whole.sae_engine.parameters(), strict=True):
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-8)


def test_an_engine_of_somebody_elses_is_passed_through_as_it_is() -> None:
    torch.manual_seed(0)
    sae = DummySae(20, N_INPUTS)
    x = torch.randn(8, N_INPUTS)
    output = forward_fn(sae)(x)
    assert output.candidates is None
    torch.testing.assert_close(output.x_hat, sae.forward(x))
