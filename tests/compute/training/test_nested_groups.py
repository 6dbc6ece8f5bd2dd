"""Matryoshka SAEs: the loss over prefixes of neurons held against NumPy, and what a training makes of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.training.forward import forward_fn
from gql_server.compute.training.strategies import TrainingStrategy
from gql_server.compute.training.trainer import ReportingTrainer
from gql_server.compute.training.training import train_sae
from gql_server.protocol.results import TrainResult
from gql_server.protocol.training_defaults import group_bounds
from tests.compute.conftest import RecordingContext
from tests.support.training import WIDTH, StoredRun, structured_rows, training_task

from mi_crow.mechanistic.sae.sae import Sae

N_LATENTS, K = 24, 3


@pytest.mark.parametrize(
    ("fractions", "n_latents", "bounds"),
    [
        ([0.25, 0.75], 24, [6, 24]),
        ([0.29, 0.71], 100, [29, 100]),
        ([1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32], 4096, [128, 384, 896, 1920, 4096]),
        ([0.3333, 0.3333, 0.3333], 10, [3, 7, 10]),
    ],
)
def test_groups_end_at_the_nearest_whole_neuron_and_the_last_at_the_last(
    fractions: list[float], n_latents: int, bounds: list[int]
) -> None:
    assert group_bounds(fractions, n_latents) == bounds


def nested(bounds: list[int]) -> Sae:
    """Make an SAE in training with biases that matter."""
    torch.manual_seed(0)
    sae = SaeClasses().get("BatchTopKSae").build(N_LATENTS, WIDTH, K, "cpu")
    with torch.no_grad():
        sae.sae_engine.encoder_bias.normal_()
        sae.sae_engine.decoder_bias.normal_()
    sae.sae_engine.group_bounds = bounds
    sae.sae_engine.train()
    return sae


def loss_of(sae: Sae, x: torch.Tensor) -> torch.Tensor:
    """Return the loss of a training step in which no neuron is dead."""
    report: Any = SimpleNamespace(
        neurons_to_revive=lambda: torch.zeros(N_LATENTS, dtype=torch.bool), record=lambda *_: None
    )
    nothing: Any = None
    trainer = ReportingTrainer(TrainingStrategy(sae), report, nothing, nothing)
    config: Any = SimpleNamespace(l1_lambda=0.0)
    return trainer._loss(forward_fn(sae)(x), x, config, 0.1)


def test_the_loss_is_the_sum_of_the_errors_of_all_prefixes() -> None:
    bounds, x = [4, 11], structured_rows(40)
    sae = nested(bounds)
    weights = {name: one.double().numpy() for name, one in sae.sae_engine.state_dict().items()}
    rows = x.double().numpy()
    pre = (rows - weights["decoder_bias"]) @ weights["encoder_weight"].T + weights["encoder_bias"]
    smallest = np.sort(np.maximum(pre, 0).flatten())[-K * len(rows)]
    latents = np.where((pre >= smallest) & (pre > 0), pre, 0)
    assert all((latents[:, :bound] != 0).any() for bound in bounds)
    expected = 0.0
    for bound in (*bounds, N_LATENTS):
        hat = latents[:, :bound] @ weights["decoder_weight"][:bound] + weights["decoder_bias"]
        expected += ((rows - hat) ** 2).mean()
    assert loss_of(sae, x).item() == pytest.approx(expected, rel=1e-5)


def test_its_gradients_are_those_of_the_formula() -> None:
    bounds, x = [4, 11], structured_rows(40)
    sae, engine = nested(bounds), nested(bounds).sae_engine
    loss_of(sae, x).backward()
    _, latents, _ = engine(x)
    ends = (*bounds, N_LATENTS)
    hats = [latents[:, :end] @ engine.decoder_weight[:end] + engine.decoder_bias for end in ends]
    torch.stack([(x - hat).square().mean() for hat in hats]).sum().backward()
    for name, parameter in engine.named_parameters():
        ours = sae.sae_engine.get_parameter(name).grad
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-5, msg=name)


def trained(directory: Path, run: StoredRun, fractions: list[float] | None) -> tuple[Sae, TrainResult]:
    task = training_task(
        directory, sae_class="BatchTopKSae", epochs=40, group_fractions=fractions, n_latents=16
    )
    result = train_sae(task, RecordingContext(), SaeClasses())
    return SaeClasses().get("BatchTopKSae").load(Path(task.sae_dir) / "sae.pt"), result


def test_the_first_group_reconstructs_more_by_itself_than_without_groups(
    run: StoredRun, tmp_path: Path
) -> None:
    first, errors = 4, []
    x = structured_rows(500)
    for fractions in ([0.25, 0.75], None):
        sae, result = trained(tmp_path, run, fractions)
        assert result.config.group_fractions == fractions
        assert result.provenance is not None and result.provenance.training is not None
        assert result.provenance.training.config["group_fractions"] == fractions
        with torch.no_grad():
            latents = sae.encode(x)
            latents[:, first:] = 0
            errors.append(float((x - sae.decode(latents)).square().mean()))
        assert result.final_point is not None and result.final_point.explained_variance > 0.5
    assert errors[0] < 0.9 * errors[1]
