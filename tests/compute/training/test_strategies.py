"""What training does beside gradient steps: starts, terms of the loss, and what comes of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.affine_engine import AffineEngine
from gql_server.compute.saes.affine_saes import AffineSae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.engine import ForwardOutput
from gql_server.compute.saes.threshold_engines import BELOW_THRESHOLD_WEIGHT, L0_WEIGHT
from gql_server.compute.training.forward import forward_fn
from gql_server.compute.training.plan import make_plan
from gql_server.compute.training.strategies import (
    AUXILIARY_WEIGHT,
    FAST,
    REVIVED_AMONG,
    TrainingStrategy,
    auxiliary_loss,
)
from gql_server.compute.training.trainer import ReportingTrainer
from gql_server.compute.training.training import train_sae
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.support.training import WIDTH, StoredRun, structured_rows, training_points, training_task

from mi_crow.mechanistic.sae.sae import Sae

ALL = [(known.name, 3 if known.needs_k else None) for known in SaeClasses().describe()]
OURS = [(name, k) for name, k in ALL if name in SaeClasses().names_of(AffineSae)]


def build(name: str, k: int | None) -> Sae:
    torch.manual_seed(0)
    return SaeClasses().get(name).build(24, WIDTH, k, "cpu")


@pytest.mark.parametrize(("name", "k"), OURS)
def test_the_decoder_bias_starts_as_the_mean_and_the_encoder_along_the_decoders_transpose(
    name: str, k: int | None
) -> None:
    sae = build(name, k)
    strategy = TrainingStrategy(sae)
    rows = structured_rows(500)
    strategy.start(rows)
    engine: Any = sae.sae_engine
    scaled = rows * strategy.scale
    assert strategy.scale == 2.0 ** round(math.log2(strategy.scale)) != 1.0
    assert 0.7 < float(scaled.norm(dim=1).median()) / math.sqrt(WIDTH) < 1.42
    np.testing.assert_allclose(engine.decoder_bias.detach(), scaled.mean(dim=0), rtol=1e-5)
    factor = float((engine.encoder_weight * engine.decoder_weight).detach().sum(dim=1).mean())
    torch.testing.assert_close(engine.encoder_weight, factor * engine.decoder_weight)
    assert_no_other_length_is_better(engine, scaled, k)
    np.testing.assert_allclose(engine.decoder_weight.detach().norm(dim=1), 1, rtol=1e-5)


def assert_no_other_length_is_better(engine: AffineEngine, x: torch.Tensor, k: int | None) -> None:
    """Assert that a longer and a shorter encoder make the first reconstruction worse."""
    centered = (x - engine.decoder_bias).detach().double().numpy()
    w_enc, w_dec = (
        weight.detach().double().numpy() for weight in (engine.encoder_weight, engine.decoder_weight)
    )
    latents = np.maximum(centered @ w_enc.T, 0)
    if k is not None:
        latents[latents < np.sort(latents, axis=1)[:, -k, None]] = 0
    errors = [np.square(centered - factor * latents @ w_dec).sum() for factor in (0.95, 1.0, 1.05)]
    assert errors[1] == min(errors)


def test_jump_relu_starts_with_about_k_active_latents() -> None:
    sae = build("JumpReLUSae", 3)
    rows = structured_rows(1000)
    strategy = TrainingStrategy(sae)
    strategy.start(rows)
    sae.sae_engine.eval()
    active = (sae.encode(rows * strategy.scale) > 0).sum(dim=1).double().mean()
    assert 1.5 < float(active) < 4.5


def test_an_engine_that_is_not_known_is_left_as_it_is() -> None:
    assert all(TrainingStrategy(build(name, k)).revives for name, k in ALL)
    strategy, rows = TrainingStrategy(DummySae(4, WIDTH)), structured_rows(50)
    before = {name: weights.clone() for name, weights in strategy.sae.sae_engine.state_dict().items()}
    strategy.start(rows)
    strategy.after_step()
    strategy.finish()
    after = strategy.sae.sae_engine.state_dict()
    assert all(torch.equal(after[name], weights) for name, weights in before.items())
    assert (strategy.scale, strategy.revives, strategy.fast_parameters()) == (1.0, False, [])


def pass_of(x_hat: Any, z_pre: Any, dictionary: Any) -> ForwardOutput:
    """Return a forward pass that gave these arrays."""
    nothing = torch.tensor(0)
    return ForwardOutput(
        x_hat=torch.tensor(x_hat),
        dictionary=torch.tensor(dictionary),
        mean_latent=nothing,
        active_count=nothing,
        fired=nothing,
        x=torch.tensor(x_hat),
        pre_activations=lambda neurons: torch.tensor(z_pre)[:, neurons],
    )


def test_the_auxiliary_loss_is_what_gao_and_others_say() -> None:
    """By NumPy: the dead latents with the largest pre-activations reconstruct what is left over."""
    rng = np.random.default_rng(1)
    n, n_inputs, n_latents = 5, 8, 12
    x, x_hat = rng.normal(size=(2, n, n_inputs))
    z_pre, dictionary = rng.normal(size=(n, n_latents)), rng.normal(size=(n_latents, n_inputs))
    for n_dead in (2, 9):
        dead = np.zeros(n_latents, bool)
        dead[rng.permutation(n_latents)[:n_dead]] = True
        k = min(4, n_dead)  # Half as many as inputs.
        total = 0.0
        for token in range(n):
            chosen = sorted(np.flatnonzero(dead), key=lambda latent: -z_pre[token, latent])[:k]
            e_hat = sum(z_pre[token, latent] * dictionary[latent] for latent in chosen)
            total += float(np.square(x[token] - x_hat[token] - e_hat).sum())
        expected = AUXILIARY_WEIGHT * k / 4 * total / (n * n_inputs)
        found = auxiliary_loss(torch.tensor(x), pass_of(x_hat, z_pre, dictionary), torch.tensor(dead))
        assert float(found) == pytest.approx(expected)


def test_the_auxiliary_loss_moves_nothing_but_the_dead() -> None:
    sae = build("BiasedTopKSae", 3)
    engine: Any = sae.sae_engine
    dead = torch.zeros(24, dtype=torch.bool)
    dead[[4, 7]] = True
    x = structured_rows(50)
    auxiliary_loss(x, forward_fn(sae)(x), dead).backward()
    for weights in (engine.encoder_weight, engine.decoder_weight):
        assert (weights.grad.to_dense().abs().sum(dim=1) > 0).tolist() == dead.tolist()


def test_of_many_dead_neurons_some_are_brought_back_at_a_time_and_all_of_them_in_turn() -> None:
    torch.manual_seed(2)
    sae = SaeClasses().get("BiasedTopKSae").build(200, 8, 3, "cpu")
    engine: Any = sae.sae_engine
    dead = torch.ones(200, dtype=torch.bool)
    dead[:20] = False
    x = torch.randn(50, 8)
    reached = torch.zeros(200, dtype=torch.bool)
    for _ in range(300):
        engine.zero_grad()
        auxiliary_loss(x, forward_fn(sae)(x), dead).backward()
        moved = engine.encoder_weight.grad.to_dense().abs().sum(dim=1) > 0
        # Of the half as many as inputs that take part for each token.
        assert 4 <= int(moved.sum()) <= REVIVED_AMONG * 4
        reached |= moved
    assert not reached[:20].any() and int(reached.sum()) > 170


def test_jump_relus_penalty_is_the_distance_from_k_and_of_the_dead_from_their_thresholds() -> None:
    sae = build("JumpReLUSae", 3)
    strategy = TrainingStrategy(sae)
    rows = structured_rows(400)
    strategy.start(rows)
    engine: Any = sae.sae_engine
    dead = torch.zeros(24, dtype=torch.bool)
    dead[[2, 9]] = True
    engine.train()
    z_pre = engine.pre_activations(rows * strategy.scale)
    output = forward_fn(sae)(rows * strategy.scale)
    z, theta = z_pre.detach().double().numpy(), engine.threshold.detach().double().numpy()
    l0 = np.mean(np.sum((z > theta) & (z > 0), axis=1))
    below = np.mean(np.sum(np.maximum(theta - z, 0)[:, dead.numpy()], axis=1))
    variance = np.mean(np.var(rows.double().numpy() * strategy.scale, axis=0, ddof=0))
    expected = variance * (L0_WEIGHT * (l0 / 3 - 1) ** 2 + BELOW_THRESHOLD_WEIGHT * below)
    assert float(torch.as_tensor(strategy.penalty(output, dead)).detach()) == pytest.approx(
        expected, rel=1e-4
    )


def test_gates_learn_by_what_they_alone_would_reconstruct() -> None:
    """Rajamanoharan et al. 2024, eq. 8, by NumPy; what decodes is held constant."""
    sae = build("GatedSae", None)
    strategy, rows = TrainingStrategy(sae), structured_rows(400)
    strategy.start(rows)
    engine: Any = sae.sae_engine
    engine.magnitude_bias.data.fill_(-0.1)
    x = rows * strategy.scale
    penalty: Any = strategy.penalty(forward_fn(sae)(x), torch.zeros(24, dtype=torch.bool))
    w = {name: weights.detach().double().numpy() for name, weights in engine.state_dict().items()}
    given = x.double().numpy()
    gates = np.maximum((given - w["decoder_bias"]) @ w["encoder_weight"].T + w["encoder_bias"], 0)
    expected = np.square(given - gates @ w["decoder_weight"] - w["decoder_bias"]).mean()
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-4)
    penalty.backward()
    assert engine.decoder_weight.grad is None and engine.magnitude_bias.grad is None
    assert bool((engine.encoder_bias.grad != 0).any()) and bool((engine.encoder_weight.grad != 0).any())


@pytest.mark.parametrize(
    ("n_latents", "steps", "asked", "expected"),
    [
        (64, 400, None, 4e-3),
        (4096, 20, None, 4e-3),
        (4096, 1600, None, 2e-3),
        (16_384, 400, None, 2e-3),
        (65_536, 400, None, 1e-3),
        (65_536, 1600, None, 5e-4),
        (65_536, 10**6, None, 2e-4),
        (65_536, 400, 5e-3, 5e-3),
    ],
)
def test_with_more_steps_or_more_neurons_the_default_learning_rate_is_lower(
    tmp_path: Path, n_latents: int, steps: int, asked: float | None, expected: float
) -> None:
    task = training_task(tmp_path, sae_class="BatchTopKSae", n_latents=n_latents, learning_rate=asked)
    strategy = TrainingStrategy(build("BatchTopKSae", 4))

    plan = make_plan(task, strategy, needs_k=True, n_inputs=WIDTH, total_steps=steps, device="cpu")

    assert plan.config.learning_rate == pytest.approx(expected)


def test_thresholds_have_a_learning_rate_of_their_own(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.optim.Optimizer] = []
    original = ReportingTrainer._create_optimizer

    def keep(trainer: ReportingTrainer, config: Any) -> torch.optim.Optimizer:
        made.append(original(trainer, config))
        return made[-1]

    monkeypatch.setattr(ReportingTrainer, "_create_optimizer", keep)
    train_sae(training_task(tmp_path, sae_class="JumpReLUSae", epochs=1), recording_context, SaeClasses())
    shapes = [[tuple(parameter.shape) for parameter in group["params"]] for group in made[0].param_groups]
    assert shapes == [[(24, WIDTH), (24,), (24, WIDTH), (WIDTH,)], [(24,)]]
    slow, fast = (group["initial_lr"] for group in made[0].param_groups)
    assert fast == pytest.approx(FAST * slow)


@pytest.mark.parametrize(("name", "k"), ALL)
def test_adams_second_average_looks_back_over_twenty_steps(
    run: StoredRun,
    tmp_path: Path,
    recording_context: RecordingContext,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    k: int | None,
) -> None:
    """By NumPy, from the gradients of all steps: with torch's 1,000 the first ones would rule to the end."""
    states: list[dict[str, torch.Tensor]] = []
    gradients: list[Any] = []
    original = ReportingTrainer._create_optimizer

    def keep(trainer: ReportingTrainer, config: Any) -> torch.optim.Optimizer:
        optimizer = original(trainer, config)
        bias = next(one for one in optimizer.param_groups[0]["params"] if one.shape == (24,))
        optimizer.register_step_pre_hook(lambda *_: gradients.append(bias.grad.double().numpy()))
        optimizer.register_step_post_hook(lambda *_: states.append(optimizer.state[bias]))
        return optimizer

    monkeypatch.setattr(ReportingTrainer, "_create_optimizer", keep)
    train_sae(training_task(tmp_path, sae_class=name, k=k), recording_context, SaeClasses())

    expected = np.zeros(24)
    for gradient in gradients:
        expected += (gradient**2 - expected) / 20
    assert len(gradients) == 4 * (len(run.rows) // 16) and expected.any()
    np.testing.assert_allclose(states[-1]["exp_avg_sq"], expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(("name", "k"), ALL)
def test_every_class_learns_and_ends_as_sparse_as_asked(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext, name: str, k: int | None
) -> None:
    task = training_task(tmp_path, sae_class=name, k=k, epochs=20)
    train_sae(task, recording_context, SaeClasses())
    found = training_points(recording_context.events)
    assert found[-1].explained_variance > max(0.6, found[0].explained_variance)
    sae = SaeClasses().get(name).load(Path(task.sae_dir) / "sae.pt")
    with torch.no_grad():
        latents = sae.encode(run.rows)
        error = (sae.decode(latents) - run.rows).square().sum()
    explained = 1 - float(error / (run.rows - run.rows.mean(dim=0)).square().sum())
    assert explained == pytest.approx(found[-1].explained_variance, abs=0.1)
    if k is not None:
        assert float((latents > 0).double().sum(dim=1).mean()) == pytest.approx(k, rel=0.35)
    if isinstance(sae.sae_engine, AffineEngine):
        np.testing.assert_allclose(sae.sae_engine.decoder_weight.norm(dim=1), 1, rtol=1e-4)


def test_batch_top_k_ends_with_a_threshold_for_the_weights_as_they_are(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    """In so short a training a mean over recent steps leaves 2.6 active latents, not 3."""
    task = training_task(tmp_path, sae_class="BatchTopKSae", epochs=1, learning_rate=0.1)
    train_sae(task, recording_context, SaeClasses())
    sae = SaeClasses().get("BatchTopKSae").load(Path(task.sae_dir) / "sae.pt")
    active = (sae.encode(run.rows) > 0).double().sum(dim=1).mean()
    assert float(active) == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize(("name", "k"), OURS)
def test_the_same_seed_gives_the_same_weights_and_another_others(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext, name: str, k: int | None
) -> None:
    weights = []
    for number, seed in enumerate([5, 5, 6]):
        directory = tmp_path / f"sae{number}"
        task = training_task(tmp_path, seed=seed, sae_dir=str(directory), sae_class=name, k=k)
        train_sae(task, recording_context, SaeClasses())
        state = torch.load(directory / "sae.pt")["state_dict"]
        weights.append(torch.cat([tensor.flatten() for tensor in state.values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", ["BiasedTopKSae", "TopKSae"])
def test_neurons_that_start_dead_come_back(
    run: StoredRun,
    tmp_path: Path,
    recording_context: RecordingContext,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quarter of the neurons begin with pre-activations too small to be among the k largest."""
    dead_shares: dict[bool, float] = {}
    for revives in (True, False):
        monkeypatch.setattr(TrainingStrategy, "revives", revives)
        monkeypatch.setattr(TrainingStrategy, "start", _crippled(TrainingStrategy.start))
        directory = str(tmp_path / f"sae{revives}")
        task = training_task(tmp_path, sae_class=name, epochs=30, learning_rate=0.01, sae_dir=directory)
        train_sae(task, recording_context, SaeClasses())
        monkeypatch.undo()
        dead_shares[revives] = training_points(recording_context.events)[-1].dead_fraction or 0.0
    assert dead_shares[False] >= 0.25
    assert dead_shares[True] < dead_shares[False] / 2


def _crippled(start: Any) -> Any:
    def crippled(strategy: Any, rows: torch.Tensor) -> None:
        start(strategy, rows)
        engine = strategy.sae.sae_engine
        affine = isinstance(engine, AffineEngine)
        weight = engine.encoder_weight if affine else engine.encoder.final_block[0].weight
        with torch.no_grad():
            weight[:6] *= 1e-3

    return crippled


@pytest.mark.parametrize(("name", "k"), [("TopKSae", 10), ("L1Sae", None)])
def test_without_a_decoder_bias_a_neuron_starts_as_the_mean_and_the_others_around_it(
    name: str, k: int | None
) -> None:
    sae = build(name, k)
    strategy = TrainingStrategy(sae)
    rows = structured_rows(500)
    strategy.start(rows)
    x = (rows * strategy.scale).double().numpy()
    mean = x.mean(axis=0)
    dictionary = sae.sae_engine.dictionary._weights.detach().double().numpy()
    np.testing.assert_allclose(dictionary[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(dictionary, axis=1), 1, atol=1e-5)
    pre_activations = sae.sae_engine.encode(rows * strategy.scale)[0].detach().double().numpy()
    np.testing.assert_allclose(pre_activations[:, 0], x @ dictionary[0], atol=1e-3)
    differences = (x - mean) @ dictionary[1:].T
    factor = (pre_activations[:, 1:] * differences).sum() / (differences**2).sum()
    np.testing.assert_allclose(pre_activations[:, 1:], factor * differences, atol=1e-3)
    latents = np.maximum(differences, 0)
    if k is not None:
        latents[latents < np.sort(latents, axis=1)[:, -(k - 1), None]] = 0
    errors = [
        np.square(x - mean - one * latents @ dictionary[1:]).sum()
        for one in factor * np.array([0.95, 1, 1.05])
    ]
    assert errors[1] == min(errors)


def test_few_active_neurons_are_left_to_what_differs() -> None:
    sae = build("TopKSae", 3)
    TrainingStrategy(sae).start(structured_rows(500))
    encoder = sae.sae_engine.encoder.final_block[0]
    assert torch.equal(encoder.weight, sae.sae_engine.dictionary._weights)
    assert not encoder.bias.any()
