"""Training metrics against NumPy in float64 on all rows at once."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gql_server.compute.metrics import DeadNeurons, IntervalMetrics


def numpy_explained_variance(x: NDArray[np.float32], x_hat: NDArray[np.float32]) -> float:
    """Compute the definition, directly."""
    x, x_hat = x.astype(np.float64), x_hat.astype(np.float64)
    return float(1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_batches_of_uneven_size_merge_into_what_numpy_says_of_all_rows(offset: float) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(700, 6)) + offset + np.arange(6)).astype(np.float32)
    x_hat = (x + rng.normal(size=x.shape) * 0.3).astype(np.float32)
    latents = np.where(rng.random((700, 9)) < 0.4, rng.random((700, 9)), 0).astype(np.float32)
    metrics = IntervalMetrics()
    for begin, end in [(0, 1), (1, 300), (300, 301), (301, 700)]:
        rows, rows_hat, codes = (torch.from_numpy(array[begin:end]) for array in (x, x_hat, latents))
        metrics.update(rows, rows_hat, codes, loss=float(begin))
    summary = metrics.summary()
    error = x.astype(np.float64) - x_hat.astype(np.float64)
    assert summary.explained_variance == pytest.approx(numpy_explained_variance(x, x_hat), abs=1e-9)
    assert summary.mse == pytest.approx((error**2).mean(), rel=1e-9)
    assert summary.l0 == pytest.approx((latents != 0).sum(axis=1).mean())
    assert summary.loss == pytest.approx((0 * 1 + 1 * 299 + 300 * 1 + 301 * 399) / 700)
    assert summary.n_rows == 700


def test_predicting_the_mean_of_each_dimension_explains_nothing() -> None:
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) + torch.tensor([1e4, -1e4, 3.0, 0.0])
    metrics = IntervalMetrics()
    mean = x.double().mean(dim=0)
    metrics.update(x, mean.expand_as(x), torch.zeros(500, 2), 0.0)
    assert metrics.summary().explained_variance == pytest.approx(0.0, abs=1e-9)


def test_rows_that_do_not_vary_have_no_explained_variance() -> None:
    metrics = IntervalMetrics()
    metrics.update(torch.ones(8, 3), torch.zeros(8, 3), torch.zeros(8, 2), 1.0)
    assert metrics.summary().explained_variance is None
    assert metrics.summary().mse == 1.0


def test_what_is_not_finite_becomes_none() -> None:
    metrics = IntervalMetrics()
    metrics.update(torch.randn(8, 3), torch.full((8, 3), torch.nan), torch.zeros(8, 2), torch.inf)
    summary = metrics.summary()
    assert (summary.loss, summary.mse, summary.explained_variance) == (None, None, None)


def test_an_interval_begins_anew_after_a_reset() -> None:
    metrics = IntervalMetrics()
    metrics.update(torch.randn(8, 3), torch.randn(8, 3), torch.ones(8, 2), 1.0)
    metrics.reset()
    assert metrics.summary().n_rows == 0
    assert metrics.summary().explained_variance is None


def test_a_neuron_is_dead_after_a_full_window_without_firing_and_alive_again_when_it_fires() -> None:
    dead = DeadNeurons(n_latents=2, window=4)
    only_first, both = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    dead.update(only_first)
    assert dead.share() is None
    dead.update(only_first)
    assert dead.share() == 0.5
    dead.update(both)
    assert dead.share() == 0.0
    dead.update(only_first)
    assert dead.share() == 0.0
    dead.update(only_first)
    assert dead.share() == 0.5
