"""Metrics of trainings and evaluations against NumPy in float64 on all rows at once."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gql_server.compute.evaluating.metrics import PredictionMetrics, ReconstructionMetrics, Targets
from gql_server.compute.language_models.padding import PaddedBatch
from gql_server.compute.training.metrics import DeadNeurons, IntervalMetrics


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
        rows, rows_hat, latents_here = (torch.from_numpy(array[begin:end]) for array in (x, x_hat, latents))
        metrics.update(rows, rows_hat, (latents_here != 0).sum(), loss=torch.tensor(float(begin)))
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
    metrics.update(x, mean.expand_as(x), torch.tensor(0), torch.tensor(0.0))
    assert metrics.summary().explained_variance == pytest.approx(0.0, abs=1e-9)


def test_rows_that_do_not_vary_have_no_explained_variance() -> None:
    metrics = IntervalMetrics()
    metrics.update(torch.ones(8, 3), torch.zeros(8, 3), torch.tensor(0), torch.tensor(1.0))
    assert metrics.summary().explained_variance is None
    assert metrics.summary().mse == 1.0


def test_what_is_not_finite_becomes_none() -> None:
    metrics = IntervalMetrics()
    metrics.update(torch.randn(8, 3), torch.full((8, 3), torch.nan), torch.tensor(0), torch.tensor(torch.inf))
    summary = metrics.summary()
    assert (summary.loss, summary.mse, summary.explained_variance) == (None, None, None)


def test_an_interval_begins_anew_after_a_reset() -> None:
    metrics = IntervalMetrics()
    metrics.update(torch.randn(8, 3), torch.randn(8, 3), torch.tensor(16), torch.tensor(1.0))
    metrics.reset()
    assert metrics.summary().n_rows == 0
    assert metrics.summary().explained_variance is None


def test_a_neuron_is_dead_after_a_full_window_without_firing_and_alive_again_when_it_fires() -> None:
    dead = DeadNeurons(n_latents=2, window=4)
    only_first, both = torch.tensor([True, False]), torch.tensor([True, True])
    dead.update(only_first, 2)
    assert dead.share() is None
    dead.update(only_first, 2)
    assert dead.share() == 0.5
    dead.update(both, 2)
    assert dead.share() == 0.0
    dead.update(only_first, 2)
    assert dead.share() == 0.0
    dead.update(only_first, 2)
    assert dead.share() == 0.5


def rare(rng: np.random.Generator, n: int, n_latents: int) -> NDArray[np.float32]:
    """Return latents of neurons that fire more and more seldom, the last one never."""
    shares = np.append(0.5 ** np.arange(1, n_latents), 0)
    return np.where(rng.random((n, n_latents)) < shares, rng.random((n, n_latents)), 0).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 300.0, 1e5])
def test_an_evaluation_says_what_numpy_says_of_all_tokens_offsets_and_rare_neurons_included(
    offset: float,
) -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(900, 7)) * 10.0 ** np.arange(-3, 4) + offset * np.arange(7)).astype(np.float32)
    x_hat = (0.8 * x + rng.normal(size=x.shape)).astype(np.float32)
    latents = rare(rng, 900, 16)
    metrics = ReconstructionMetrics(n_latents=16)
    for begin, end in [(0, 1), (1, 500), (500, 502), (502, 900)]:
        metrics.update(*(torch.from_numpy(array[begin:end]) for array in (x, x_hat, latents)))
    summary = metrics.summary()
    wide, wide_hat = x.astype(np.float64), x_hat.astype(np.float64)
    products = (wide * wide_hat).sum(axis=1)
    cosines = products / np.linalg.norm(wide, axis=1) / np.linalg.norm(wide_hat, axis=1)
    assert summary.token_count == 900
    assert summary.mse == pytest.approx(((wide - wide_hat) ** 2).mean(), rel=1e-9)
    assert summary.explained_variance == pytest.approx(numpy_explained_variance(x, x_hat), rel=1e-9)
    assert summary.l0 == pytest.approx((latents != 0).sum() / 900)
    assert summary.dead_fraction == (latents.max(axis=0) == 0).mean() > 0
    assert summary.cosine_similarity == pytest.approx(cosines.mean(), rel=1e-9)
    bias = (wide_hat**2).sum(axis=1).mean() / products.mean()
    assert summary.relative_reconstruction_bias == pytest.approx(bias, rel=1e-9)


def test_the_bias_is_the_factor_that_makes_the_reconstructions_best_when_it_is_divided_out() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 5))
    x_hat = 0.7 * x + 0.2 * rng.normal(size=x.shape)
    metrics = ReconstructionMetrics(n_latents=1)
    metrics.update(torch.from_numpy(x), torch.from_numpy(x_hat), torch.ones(400, 1))
    factors = np.linspace(0.5, 1.5, 10_001)
    errors = [(((x_hat / factor) - x) ** 2).sum() for factor in factors]
    assert metrics.summary().relative_reconstruction_bias == pytest.approx(
        factors[np.argmin(errors)], abs=1e-4
    )


def test_predicting_the_mean_explains_nothing_and_a_perfect_copy_everything() -> None:
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) + torch.tensor([1e4, -1e4, 3.0, 0.0])
    mean, perfect = ReconstructionMetrics(2), ReconstructionMetrics(2)
    mean.update(x, x.double().mean(dim=0).expand_as(x), torch.zeros(500, 2))
    perfect.update(x, x, torch.ones(500, 2))
    assert mean.summary().explained_variance == pytest.approx(0.0, abs=1e-9)
    assert mean.summary().dead_fraction == 1.0
    summary = perfect.summary()
    assert (summary.mse, summary.explained_variance, summary.dead_fraction) == (0.0, 1.0, 0.0)
    assert summary.cosine_similarity == pytest.approx(1.0)
    assert summary.relative_reconstruction_bias == pytest.approx(1.0)


def test_a_token_that_nothing_fires_on_has_a_cosine_of_0_and_no_bias_can_be_told_of_such_alone() -> None:
    metrics = ReconstructionMetrics(2)
    metrics.update(torch.ones(3, 2), torch.zeros(3, 2), torch.zeros(3, 2))
    assert metrics.summary().cosine_similarity == 0.0
    assert metrics.summary().relative_reconstruction_bias is None
    metrics.update(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2))
    assert metrics.summary().cosine_similarity == pytest.approx(0.25)


def test_an_evaluation_of_nothing_or_of_what_is_not_finite_has_no_figures() -> None:
    nothing, broken = ReconstructionMetrics(2).summary(), ReconstructionMetrics(2)
    assert nothing.token_count == 0
    assert {nothing.mse, nothing.l0, nothing.dead_fraction, nothing.cosine_similarity} == {None}
    broken.update(torch.randn(3, 2), torch.full((3, 2), torch.inf), torch.ones(3, 2))
    summary = broken.summary()
    assert (summary.mse, summary.cosine_similarity, summary.relative_reconstruction_bias) == (
        None,
        None,
        None,
    )
    assert summary.l0 == 2.0
    predictions = PredictionMetrics().summary()
    assert (predictions.original, predictions.recovered, predictions.kl_divergence) == (None, None, None)


def padded(ids: list[list[int]], mask: list[list[int]]) -> PaddedBatch:
    return PaddedBatch(torch.tensor(ids), torch.tensor(mask))


@pytest.mark.parametrize("vocabulary", [5, 70_000])
def test_cross_entropies_and_divergence_are_those_of_numpy_in_batches_of_any_size(vocabulary: int) -> None:
    rng = np.random.default_rng(3)
    own, reconstructed, zeroed = (rng.normal(size=(3, 9, vocabulary)) * scale for scale in (4, 3, 1))
    ids = rng.integers(vocabulary, size=(3, 9))
    mask = np.arange(9) < np.array([9, 6, 2])[:, None]
    counted = mask & (rng.random((3, 9)) < 0.8)
    metrics = PredictionMetrics()
    for texts in (slice(0, 1), slice(1, 3)):
        batch = padded(ids[texts].tolist(), mask[texts].astype(int).tolist())
        targets = Targets.of(batch, torch.from_numpy(counted[texts]))
        metrics.update(torch.from_numpy(own[texts]), torch.from_numpy(reconstructed[texts]), targets)
        metrics.update_zero_ablated(torch.from_numpy(zeroed[texts]), targets)
    summary = metrics.summary()
    places = [(text, place) for text in range(3) for place in range(1, 9) if counted[text, place]]

    def entropy(logits: NDArray[np.float64]) -> float:
        return float(np.mean([-log_softmax(logits[t, p - 1])[ids[t, p]] for t, p in places]))

    divergences = [
        (np.exp(a := log_softmax(own[t, p - 1])) * (a - log_softmax(reconstructed[t, p - 1]))).sum()
        for t, p in places
    ]
    assert summary.token_count == len(places)
    assert summary.original == pytest.approx(entropy(own), rel=1e-9)
    assert summary.reconstructed == pytest.approx(entropy(reconstructed), rel=1e-9)
    assert summary.zero_ablated == pytest.approx(entropy(zeroed), rel=1e-9)
    assert summary.kl_divergence == pytest.approx(np.mean(divergences), rel=1e-9)
    lost = entropy(zeroed) - entropy(reconstructed)
    assert summary.recovered == pytest.approx(lost / (entropy(zeroed) - entropy(own)), rel=1e-9)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def test_a_token_that_cannot_come_adds_nothing_to_the_divergence() -> None:
    logits = torch.tensor([[[1.0, 2.0, -torch.inf], [0.0, 0.0, 0.0]]])
    targets = Targets.of(padded([[0, 1]], [[1, 1]]), torch.tensor([[True, True]]))
    metrics = PredictionMetrics()
    metrics.update(logits, logits, targets)
    assert metrics.summary().kl_divergence == 0.0
    metrics.update(torch.zeros(1, 2, 3), logits, targets)
    assert metrics.summary().kl_divergence is None, "what comes with the one never comes with the other"


def test_a_token_is_predicted_where_it_counts_and_a_real_token_comes_before_it() -> None:
    # Special tokens are 0; the second text is padded on the left and has none before its first token.
    batch = padded([[0, 7, 8, 0], [9, 9, 5, 6], [0, 4, 0, 3]], [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    counted = batch.attention_mask.bool() & (batch.input_ids != 0)
    targets = Targets.of(batch, counted)
    assert targets.positions.tolist() == [0, 1, 6, 8, 10]
    assert targets.token_ids.tolist() == [7, 8, 6, 4, 3]
