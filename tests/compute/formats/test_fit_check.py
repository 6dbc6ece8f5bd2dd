"""Whether an imported SAE fits: figures held against plain transformers with a hook by hand and NumPy."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.compute.formats import fit_check
from gql_server.compute.formats.fit_texts import TEXTS
from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.worker.context import CancelRequested
from gql_server.protocol.events import Log, Stage
from gql_server.protocol.results import ImportResult
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import ImportSae
from tests.compute.conftest import RecordingContext
from tests.compute.evaluation_by_hand import ByHand, NumpyAffineSae, NumpySae
from tests.compute.formats.published import task_for
from tests.published.weights import Array
from tests.saelens.cases import CLASSES, K, make
from tests.support.tiny_model import make_tiny_model

WIDTH = 16
LAYER = "llamaforcausallm_model_layers_0"
PLACE = "gemma-scope-2b-pt-res/layer_0/width_16k"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> LanguageModelSource:
    """Give a tiny model that is as wide as the SAEs of tests/saelens."""
    directory = make_tiny_model(tmp_path_factory.mktemp("narrow"), hidden_size=WIDTH)
    copy = str(tmp_path_factory.mktemp("copy"))
    return LanguageModelSource("lm_1", "DIRECTORY", str(directory), None, "FLOAT32", copy)


def mirrored(scale: float = 1.0) -> dict[str, Array]:
    """Make an SAE that gives back its inputs times a scale, by a latent for either sign of each."""
    both = np.concatenate([np.eye(WIDTH), -np.eye(WIDTH)])
    zeros = np.zeros(2 * WIDTH)
    return {
        "W_enc": both.T,
        "b_enc": zeros,
        "W_dec": scale * both,
        "b_dec": zeros[:WIDTH],
        "threshold": zeros,
    }


def gemma_scope(directory: Path, found: dict[str, Array], l0: int = WIDTH) -> Path:
    """Write an SAE of block 0 whose path states its L0."""
    path = directory / PLACE / f"average_l0_{l0}"
    path.mkdir(parents=True)
    np.savez(path / "params.npz", **{name: value.astype(np.float32) for name, value in found.items()})
    return path


def task_of(path: Path, source: LanguageModelSource, **changes: Any) -> ImportSae:
    chosen = {"n_inputs": WIDTH, "layer": LAYER, "language_model": source, "check_fit": True} | changes
    return task_for(path, **chosen)


def fit_of(task: ImportSae, language_models: LanguageModels) -> tuple[ImportResult, list[str]]:
    """Import, and return what came of it and the job's log."""
    context = RecordingContext()
    result = import_sae(task, context, SaeClasses(), language_models)
    return result, [event.message for event in context.events if isinstance(event, Log)]


def norms_by_hand(directory: Path) -> Array:
    """Return the lengths of block 0's outputs at the tokens that are not special, by text and place."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    lengths = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"][: fit_check.MAX_LENGTH]
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]
        assert ids[0] == tokenizer.bos_token_id
        lengths.append(hidden[1:].double().norm(dim=1).numpy())
    return np.concatenate(lengths)


def test_an_sae_that_fits_has_its_figures_in_the_result_and_in_metadata_json(
    source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    task = task_of(gemma_scope(tmp_path, mirrored()), source)
    result, told = fit_of(task, language_models)
    fit = result.fit
    assert fit is not None and fit.warnings == []
    assert fit.explained_variance == pytest.approx(1) and fit.l0 == pytest.approx(WIDTH)
    assert (fit.stated_l0, fit.text_count) == (WIDTH, len(TEXTS))
    norms = norms_by_hand(Path(source.location))
    assert fit.token_count == len(norms)
    assert fit.mean_norm == pytest.approx(norms.mean(), rel=1e-5)
    assert any(f"{len(norms):,} tokens" in one and f"source states {WIDTH}" in one for one in told)
    metadata = json.loads((Path(task.sae_dir) / "metadata.json").read_text())
    assert metadata["fit"] == msgspec.to_builtins(fit)


@pytest.mark.parametrize("name", CLASSES)
def test_the_figures_of_every_class_are_those_by_hand(
    name: str, source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    sae, k = make(name), K if "TopK" in name else None
    path = SaeClasses().get(name).save(sae, tmp_path / "theirs", k)
    result, _ = fit_of(task_of(path, source), language_models)
    of_numpy = NumpySae(sae, k) if name in ("TopKSae", "L1Sae") else NumpyAffineSae(sae)
    by_hand = ByHand(Path(source.location), "model.layers.0", of_numpy)
    by_hand.first = fit_check.FIRST_POSITIONS
    expected = by_hand.figures(TEXTS, fit_check.MAX_LENGTH)
    assert result.fit is not None and (result.sae_class, result.k) == (name, k)
    assert result.fit.explained_variance == pytest.approx(expected["explained_variance"], rel=1e-5)
    # In float32 a latent or two of tens of thousands are on the other side of 0.
    assert result.fit.l0 == pytest.approx(expected["l0"], rel=5e-5)
    assert result.fit.stated_l0 == k


def test_outliers_and_first_positions_do_not_count(
    source: LanguageModelSource,
    language_models: LanguageModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    norms = np.sort(norms_by_hand(Path(source.location)))
    # Between two lengths, so that the longest tokens are outliers: a tenth of all, as chosen here.
    limit = norms[-len(norms) // 10 - 1 : -len(norms) // 10 + 1].mean()
    monkeypatch.setattr(fit_check, "DEFAULT_OUTLIERS", limit / np.median(norms))
    result, _ = fit_of(task_of(gemma_scope(tmp_path, mirrored()), source), language_models)
    assert result.fit is not None
    assert result.fit.token_count == (norms <= limit).sum() < len(norms)
    # A text's first token is its BOS here, which does not count anyway: three places leave out two more.
    monkeypatch.setattr(fit_check, "DEFAULT_OUTLIERS", 1e6)
    monkeypatch.setattr(fit_check, "FIRST_POSITIONS", 3)
    result, _ = fit_of(task_of(tmp_path / PLACE / f"average_l0_{WIDTH}", source), language_models)
    assert result.fit is not None and result.fit.token_count == len(norms) - 2 * len(TEXTS)


def test_one_that_reconstructs_badly_is_warned_of_with_likely_reasons(
    source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    task = task_of(gemma_scope(tmp_path, mirrored(-1)), source, writes_bos=False)
    result, told = fit_of(task, language_models)
    assert result.fit is not None
    (warning,) = result.fit.warnings
    assert warning in told and "explain only -" in warning
    for part in ("with a BOS", "another layer", "model.layers.0", "other weights", "scaled or centered"):
        assert part in warning
    assert warning.index("BOS") < warning.index("another layer")


@pytest.mark.parametrize(
    ("stated", "warned"),
    [(WIDTH // 2, False), (WIDTH // 2 - 1, True), (2 * WIDTH, False), (2 * WIDTH + 1, True)],
)
def test_an_l0_far_from_the_stated_one_is_warned_of(
    stated: int,
    warned: bool,
    source: LanguageModelSource,
    language_models: LanguageModels,
    tmp_path: Path,
) -> None:
    result, _ = fit_of(task_of(gemma_scope(tmp_path, mirrored(), stated), source), language_models)
    assert result.fit is not None and result.fit.stated_l0 == stated
    assert [f"source states {stated}" in one for one in result.fit.warnings] == [True] * warned


@pytest.mark.parametrize(("ratio", "warned"), [(1.0, False), (1.9, False), (2.1, True), (0.45, True)])
def test_a_factor_of_the_inputs_is_held_against_how_long_they_are(
    ratio: float, warned: bool, source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    usual = float(np.sqrt(WIDTH) / norms_by_hand(Path(source.location)).mean())
    task = task_of(gemma_scope(tmp_path, mirrored()), source, input_scale=ratio * usual)
    result, _ = fit_of(task, language_models)
    assert result.fit is not None and result.fit.explained_variance == pytest.approx(1)
    assert [f"{usual:.3g} would do that here" in one for one in result.fit.warnings] == [True] * warned


def test_a_model_that_cannot_be_loaded_is_told_of_and_the_import_goes_on(
    source: LanguageModelSource,
    language_models: LanguageModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = gemma_scope(tmp_path, mirrored())
    gone = msgspec.structs.replace(source, id="lm_gone", location=str(tmp_path / "gone"))
    result, told = fit_of(task_of(path, gone), language_models)
    assert result.fit is None and any("could not be checked" in one for one in told)
    large = task_of(path, source, parameter_count=10**15)
    result, told = fit_of(large, language_models)
    assert result.fit is None and any("takes 4000000.0 GB" in one for one in told)
    language_models.get(source)
    assert fit_of(large, language_models)[0].fit is not None  # It takes no more memory then.

    def no_memory(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(language_models, "get", no_memory)
    result, told = fit_of(task_of(path, source), language_models)
    assert result.fit is None and any("no memory" in one for one in told)
    assert fit_of(task_of(path, source, layer="nothing"), LanguageModels(device="cpu"))[0].fit is None


def test_an_sae_whose_values_overflow_is_told_of_and_not_measured(
    source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    weights = mirrored() | {"W_enc": 1e38 * mirrored()["W_enc"], "W_dec": 1e38 * mirrored()["W_dec"]}
    result, told = fit_of(task_of(gemma_scope(tmp_path, weights), source), language_models)
    assert result.fit is None and any("not finite" in one for one in told)


def test_it_loads_no_model_where_it_is_not_asked_for(
    source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    task = task_of(gemma_scope(tmp_path, mirrored()), source, check_fit=False)
    result, _ = fit_of(task, language_models)
    assert result.fit is None and not language_models.is_loaded(source)
    assert "fit" not in json.loads((Path(task.sae_dir) / "metadata.json").read_text())


def test_it_can_be_canceled_and_leaves_nothing_then(
    source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    context = RecordingContext()

    def cancel() -> None:
        if any(isinstance(event, Stage) for event in context.events):
            raise CancelRequested

    context.on_check = cancel  # type: ignore[method-assign]
    task = task_of(gemma_scope(tmp_path, mirrored()), source)
    with pytest.raises(CancelRequested):
        import_sae(task, context, SaeClasses(), language_models)
    assert not Path(task.sae_dir).exists()
