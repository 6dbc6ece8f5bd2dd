"""The classes with a decoder bias, against NumPy and the papers' formulas."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.affine_saes import (
    AffineSae,
    BatchTopKSae,
    BiasedTopKSae,
    GatedSae,
    JumpReLUSae,
    ReLUSae,
)
from gql_server.compute.saes.classes import SaeClass
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.saes.threshold_engines import BANDWIDTH, BatchTopKEngine, JumpReLUEngine

N_INPUTS, N_LATENTS, K = 6, 20, 3
ALL = [ReLUSae, BiasedTopKSae, BatchTopKSae, JumpReLUSae, GatedSae]


def build(sae_type: type[AffineSae], *, subtracts_bias: bool = True) -> AffineSae:
    """Make an SAE with random weights, biases and thresholds."""
    torch.manual_seed(3)
    described = SaeClass(sae_type.__name__, sae_type)
    sae: Any = described.build(N_LATENTS, N_INPUTS, K if described.needs_k else None, "cpu")
    with torch.no_grad():
        for tensor in (*sae.sae_engine.parameters(), *sae.sae_engine.buffers()):
            tensor.copy_(torch.randn_like(tensor))
        if hasattr(sae.sae_engine, "threshold"):
            sae.sae_engine.threshold.abs_()
    sae.sae_engine.subtracts_bias = subtracts_bias
    sae.sae_engine.eval()
    assert isinstance(sae, AffineSae)
    return sae


def arrays(sae: AffineSae) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.double().numpy() for name, tensor in sae.sae_engine.state_dict().items()}


def pre_activations_by_hand(sae: AffineSae, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    w = arrays(sae)
    centered = x - w["decoder_bias"] if sae.sae_engine.subtracts_bias else x
    pre_activations: np.ndarray[Any, Any] = centered @ w["encoder_weight"].T + w["encoder_bias"]
    return pre_activations


def by_hand(sae: AffineSae, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the latents of x [n, N_INPUTS]."""
    pre = pre_activations_by_hand(sae, x)
    positive = np.maximum(pre, 0)
    if isinstance(sae, ReLUSae):
        return positive
    if isinstance(sae, BiasedTopKSae):
        kept = np.argsort(-positive, axis=1)[:, :K]
        latents = np.zeros_like(positive)
        np.put_along_axis(latents, kept, np.take_along_axis(positive, kept, 1), 1)
        return latents
    if isinstance(sae, GatedSae):
        w = arrays(sae)
        magnitudes = np.exp(w["magnitude_log_scale"]) * (pre - w["encoder_bias"]) + w["magnitude_bias"]
        return np.where(pre > 0, np.maximum(magnitudes, 0), 0)
    return np.where(pre > arrays(sae)["threshold"], positive, 0)


@pytest.mark.parametrize("sae_type", ALL)
@pytest.mark.parametrize("subtracts_bias", [True, False])
def test_latents_and_reconstruction_are_what_the_formula_says(
    sae_type: type[AffineSae], subtracts_bias: bool
) -> None:
    sae = build(sae_type, subtracts_bias=subtracts_bias)
    x = torch.randn(50, N_INPUTS) * 3 + 1
    latents = sae.encode(x)
    expected = by_hand(sae, x.double().numpy())
    np.testing.assert_allclose(latents.detach().numpy(), expected, atol=1e-5)
    assert 0 < np.count_nonzero(expected) < expected.size
    w = arrays(sae)
    np.testing.assert_allclose(
        sae.forward(x).detach().numpy(), expected @ w["decoder_weight"] + w["decoder_bias"], atol=1e-4
    )


@pytest.mark.parametrize("sae_type", ALL)
def test_a_checkpoint_holds_everything(sae_type: type[AffineSae], tmp_path: Path) -> None:
    sae = build(sae_type, subtracts_bias=False)
    described = SaeClass(sae_type.__name__, sae_type)
    loaded: Any = described.load(described.save(sae, tmp_path))
    x = torch.randn(20, N_INPUTS)
    assert torch.equal(loaded.encode(x), sae.encode(x))
    assert torch.equal(loaded.forward(x), sae.forward(x))
    assert (loaded.sae_engine.k, loaded.sae_engine.training) == (sae.sae_engine.k, False)


def test_a_loaded_sae_encodes_one_token_as_it_does_many_and_stays_as_it_is(tmp_path: Path) -> None:
    sae = build(BatchTopKSae)
    sae.save("sae", tmp_path)
    loaded = BatchTopKSae.load(tmp_path / "sae.pt")
    x = torch.randn(20, N_INPUTS)
    one_by_one = torch.cat([loaded.encode(row[None]) for row in x])
    torch.testing.assert_close(one_by_one, sae.encode(x))
    thresholds = [one.sae_engine.state_dict()["threshold"] for one in (loaded, sae)]
    assert torch.equal(*thresholds)


def test_a_checkpoint_of_another_class_is_not_taken(tmp_path: Path) -> None:
    build(ReLUSae).save("sae", tmp_path)
    with pytest.raises(ValueError, match="one of ReLUSae, not of JumpReLUSae"):
        JumpReLUSae.load(tmp_path / "sae.pt")


@pytest.mark.parametrize("sae_type", ALL)
def test_folding_the_scale_gives_the_same_latents_on_activations_as_they_are(
    sae_type: type[AffineSae],
) -> None:
    sae = build(sae_type)
    x = torch.randn(50, N_INPUTS)
    latents, reconstruction = sae.encode(8 * x), sae.forward(8 * x)
    sae.sae_engine.fold_scale(8.0)
    assert torch.equal(sae.encode(x), latents / 8)
    torch.testing.assert_close(sae.forward(x), reconstruction / 8)


def test_batch_top_k_keeps_k_per_token_on_average_and_then_the_mean_of_the_smallest_kept() -> None:
    engine = BatchTopKEngine(N_INPUTS, N_LATENTS, K)
    engine.train()
    smallest = []
    for _ in range(400):
        _, latents = engine.encode(torch.randn(32, N_INPUTS))
        assert int((latents > 0).sum()) == 32 * K
        smallest.append(float(latents[latents > 0].detach().min()))
    assert len({int(n) for n in (latents > 0).sum(dim=1)}) > 1
    # An exponential mean forgets all but the last 40 batches or so.
    assert float(engine.threshold) == pytest.approx(np.mean(smallest[-40:]), rel=0.1)
    rows = torch.randn(3000, N_INPUTS)
    engine.settle(rows)
    batches = [engine.pre_activations(rows[first::3]).detach().numpy() for first in range(3)]
    kept = [np.sort(batch, axis=None)[-1000 * K] for batch in batches]
    assert float(engine.threshold) == pytest.approx(np.mean(kept))
    engine.eval()
    _, latents = engine.encode(torch.randn(2000, N_INPUTS))
    assert float((latents > 0).sum()) / 2000 == pytest.approx(K, rel=0.15)


@pytest.mark.parametrize("remembered", [-1.0, 0.0, 0.1, 100.0])
@pytest.mark.parametrize("bias", [0.0, -4.0])
def test_batch_top_k_finds_the_largest_of_a_batch_whatever_threshold_it_remembers(
    remembered: float, bias: float
) -> None:
    torch.manual_seed(8)
    engine = BatchTopKEngine(N_INPUTS, 600, K)
    with torch.no_grad():
        engine.threshold.fill_(remembered)
        engine.encoder_bias.fill_(bias)
    engine.train()
    x = torch.randn(200, N_INPUTS)
    sparse = engine.active(x)
    pre = engine.pre_activations(x).detach().numpy()
    largest = [place for place in np.argsort(-pre, axis=None)[: 200 * K] if pre.flat[place] > 0]
    assert len(largest) == 200 * K or bias < 0
    assert sorted((sparse.rows * 600 + sparse.neurons).tolist()) == sorted(largest)
    np.testing.assert_array_equal(
        sparse.dense().numpy()[sparse.rows, sparse.neurons], pre.flat[sorted(largest)]
    )


def test_batch_top_k_does_not_list_all_positive_pre_activations_of_its_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = BatchTopKEngine(16, 4096, 4)
    listed: list[SparseLatents] = []
    above = SparseLatents.above

    def noted(values: torch.Tensor, bound: torch.Tensor) -> SparseLatents:
        listed.append(above(values, bound))
        return listed[-1]

    monkeypatch.setattr(SparseLatents, "above", noted)
    engine.train()
    engine.active(torch.randn(512, 16))
    assert sum(len(sparse.values) for sparse in listed) < 4 * (512 * 4)


def test_thresholds_get_the_pseudo_derivatives_of_the_paper() -> None:
    """Rajamanoharan et al. 2024, eq. 11 and 12, kernel 1 on |u| < 1/2, by loops."""
    torch.manual_seed(5)
    engine = JumpReLUEngine(N_INPUTS, N_LATENTS, K)
    engine.train()
    with torch.no_grad():
        engine.threshold.uniform_(0.2, 0.6)
    pre = (torch.rand(400, N_LATENTS) * 1.2 - 0.2).requires_grad_()
    weights = torch.randn(400, N_LATENTS)
    latents = engine.activate(pre)
    (latents * weights).sum().backward()
    near = (pre.detach() - engine.threshold.detach()).abs() < BANDWIDTH / 2
    expected = np.zeros(N_LATENTS)
    for latent in range(N_LATENTS):
        theta = float(engine.threshold.detach()[latent])
        for token in range(400):
            if near[token, latent]:
                expected[latent] -= theta / BANDWIDTH * float(weights[token, latent])
    assert engine.threshold.grad is not None
    assert pre.grad is not None
    np.testing.assert_allclose(engine.threshold.grad.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(pre.grad, weights * (latents > 0))

    l0 = engine.l0(engine.choose(pre))
    assert float(l0.detach()) == pytest.approx(float((latents > 0).sum()) / 400)
    (gradient,) = torch.autograd.grad(l0, engine.threshold)
    np.testing.assert_allclose(gradient.numpy(), -near.numpy().sum(axis=0) / BANDWIDTH / 400, rtol=1e-5)
