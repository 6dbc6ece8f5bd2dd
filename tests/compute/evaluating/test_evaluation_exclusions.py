"""Evaluations that leave out first positions, outliers and what is not finite, against NumPy."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from gql_server.artifacts.datasets import write_texts
from gql_server.compute.evaluating.evaluation import evaluate_sae
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import Log
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import EvaluationResult
from gql_server.protocol.sources import SaeSource
from gql_server.protocol.tasks import EvaluateSae
from tests.compute.conftest import RecordingContext
from tests.compute.evaluation_by_hand import Array, ByHand, NumpyAffineSae
from tests.compute.extreme_models import LAYER, WIDTH, make_overflow, make_sink, source_of

from mi_crow.mechanistic.sae.sae import Sae

TEXTS = [f"Number {n}: the value of the expression {n * 7} is true for a string." for n in range(30)]
MAX_LENGTH = 20
N_LATENTS, K = 40, 4
NAMES = (
    "token_count", "predicted_token_count", "mse", "explained_variance", "l0", "dead_fraction",
    "cosine_similarity", "relative_reconstruction_bias", "ce_loss_original", "ce_loss_reconstructed",
    "ce_loss_zero_ablated", "kl_divergence_reconstructed",
)  # fmt: skip


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sink(tmp_path_factory.mktemp("sink") / "lm")


@pytest.fixture(scope="module")
def overflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_overflow(tmp_path_factory.mktemp("overflow") / "lm")


def make_sae() -> Sae:
    torch.manual_seed(2)
    sae = SaeClasses().get("BiasedTopKSae").build(N_LATENTS, WIDTH, K, "cpu")
    place(sae, "cpu")
    sae.sae_engine.requires_grad_(False)
    return sae


def evaluated(
    directory: Path, lm: Path, texts: list[str], dtype: str = "FLOAT32", **more: Any
) -> tuple[EvaluationResult, list[str]]:
    write_texts(directory / "texts", texts)
    task = EvaluateSae(
        sae=SaeSource("sae_1", "BiasedTopKSae", str(directory), LAYER, WIDTH, N_LATENTS, K),
        language_model=source_of(lm, dtype),
        dataset_dir=str(directory / "texts"),
        hub_dataset=None,
        dataset_kind="INLINE",
        dataset_description="some texts",
        dataset_sample_count=len(texts),
        sample_offset=0,
        sample_limit=100,
        trained_max_length=MAX_LENGTH,
        max_texts=100,
        **more,
    )
    context = RecordingContext()
    loaded = LanguageModels(device="cpu").get(task.language_model)
    result = evaluate_sae(task, context, loaded, make_sae())
    return result, [event.message for event in context.events if isinstance(event, Log)]


class SinkByHand(ByHand):
    """Keeps the activations that it measures on."""

    def _near(self, x: Array) -> dict[str, float]:
        self.x = x
        return super()._near(x)

    def explained(self, x: Array) -> float:
        x_hat = self._reconstruct(x)
        return float(1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


@pytest.fixture(scope="module")
def by_hand(sink: Path) -> SinkByHand:
    return SinkByHand(sink, "transformer.h.0", NumpyAffineSae(make_sae()))


@pytest.mark.parametrize(
    "exclusions",
    [Exclusions(), Exclusions(first_positions=1), Exclusions(outliers=1.3), Exclusions(2, 10.0)],
    ids=str,
)
def test_every_figure_leaves_out_what_is_excluded_and_explained_variance_comes_with_outliers_and_without(
    sink: Path, by_hand: SinkByHand, tmp_path: Path, exclusions: Exclusions
) -> None:
    by_hand.first, by_hand.limit = 0, math.inf
    by_hand.figures(TEXTS, MAX_LENGTH)
    everything = by_hand.x
    norms = np.linalg.norm(everything, axis=1)
    median = float(np.median(norms))
    positions = np.concatenate([np.arange(MAX_LENGTH)] * len(TEXTS))
    assert len(positions) == len(everything)
    typical = (positions >= exclusions.first_positions) & (norms <= (exclusions.outliers or 10.0) * median)
    by_hand.first, by_hand.limit = exclusions.first_positions, (exclusions.outliers or math.inf) * median
    figures = by_hand.figures(TEXTS, MAX_LENGTH)
    known = msgspec.structs.replace(exclusions, median_norm=median)
    result, logs = evaluated(tmp_path, sink, TEXTS, exclusions=known)
    found = {name: getattr(result, name) for name in NAMES}
    assert found == pytest.approx({name: figures[name] for name in NAMES}, rel=1e-4, abs=1e-5)
    assert result.excluded_token_count == len(everything) - result.token_count
    assert result.outlier_count == int((~typical).sum()) > 0
    assert result.explained_variance_with_outliers == pytest.approx(by_hand.explained(everything), rel=1e-4)
    assert result.explained_variance_without_outliers == pytest.approx(
        by_hand.explained(everything[typical]), rel=1e-4
    )
    assert any(f"without the {result.outlier_count} tokens" in line for line in logs)


def test_a_median_that_nobody_knows_is_that_of_the_texts(
    sink: Path, by_hand: SinkByHand, tmp_path: Path
) -> None:
    by_hand.first, by_hand.limit = 0, math.inf
    by_hand.figures(TEXTS, MAX_LENGTH)
    median = float(np.median(np.linalg.norm(by_hand.x, axis=1)))
    result, logs = evaluated(tmp_path, sink, TEXTS, exclusions=Exclusions(outliers=10.0))
    assert result.median_norm == pytest.approx(median)
    assert result.excluded_token_count == len(TEXTS)
    assert any("how long activations are on these texts" in line for line in logs)
    result, _ = evaluated(tmp_path, sink, TEXTS)
    assert (result.median_norm, result.outlier_count, result.explained_variance_without_outliers) == (
        None,
    ) * 3
    assert result.explained_variance_with_outliers == result.explained_variance


def test_exclusions_that_leave_no_token_are_invalid(sink: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="No token is left to measure on: exclude less") as caught:
        evaluated(tmp_path, sink, TEXTS, exclusions=Exclusions(first_positions=MAX_LENGTH))
    assert caught.value.code == "INVALID"


def test_a_text_that_the_model_overflows_on_is_as_if_it_were_not_there(
    overflow: Path, tmp_path: Path
) -> None:
    good = [text.replace("the", "a") for text in TEXTS]
    result, logs = evaluated(tmp_path, overflow, [*good, "The end."], "FLOAT16")
    without, _ = evaluated(tmp_path, overflow, good, "FLOAT16")
    assert result.non_finite_token_count > 0 == without.non_finite_token_count
    assert {name: getattr(result, name) for name in NAMES} == pytest.approx(
        {name: getattr(without, name) for name in NAMES}, rel=2e-2
    )
    assert result.ce_loss_original is not None
    assert any("computes in FLOAT16" in line and "(addLanguageModel)" in line for line in logs)


def test_a_model_that_overflows_on_too_much_is_told_of_with_the_remedy(
    overflow: Path, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match="are NaN or infinite at .* computes in FLOAT16") as caught:  # noqa: RUF043
        evaluated(tmp_path, overflow, [f"The value {n}." for n in range(5)], "FLOAT16")
    assert "BFLOAT16 or FLOAT32 (addLanguageModel)" in caught.value.reason
