"""Evaluations, held against plain transformers with a hook by hand and an SAE in NumPy."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from gql_server.artifacts.datasets import write_texts
from gql_server.compute.evaluating import evaluation
from gql_server.compute.evaluating.evaluation import evaluate_sae
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.text_encoder import TextEncoder
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.results import EvaluationResult
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import EvaluateSae
from gql_server.tokens.edges import TextEdges
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.compute.evaluation_by_hand import FIGURES, ByHand, NumpyAffineSae, NumpySae
from tests.compute.sae_fixtures import LAYER, N_LATENTS, K, make_sae, sae_source

TEXTS = [
    "The for statement is used to iterate over the elements of a sequence.",
    "Strings",
    "",
    "A short text.<eos><bos>And another one in the same text.",
    "It is used to iterate over the elements of a sequence such as a string, tuple or list, and more.",
    "x<eos>",
    "naïve 😀",
]
MAX_LENGTH = 20


@pytest.fixture
def task(tiny_source: LanguageModelSource, tmp_path: Path) -> EvaluateSae:
    """Keep the texts as a dataset, and return a task that evaluates an SAE of layer 0 on them."""
    write_texts(tmp_path / "texts", TEXTS)
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae" / "metadata.json").write_text('{"seed": 7}')
    return EvaluateSae(
        sae=msgspec.structs.replace(sae_source(), directory=str(tmp_path / "sae")),
        language_model=tiny_source,
        dataset_dir=str(tmp_path / "texts"),
        hub_dataset=None,
        dataset_kind="INLINE",
        dataset_description="7 texts",
        dataset_sample_count=7,
        sample_offset=0,
        sample_limit=100,
        trained_max_length=MAX_LENGTH,
        max_texts=100,
    )


def changed(task: EvaluateSae, **changes: Any) -> EvaluateSae:
    return msgspec.structs.replace(task, **changes)


def of_layer(task: EvaluateSae, layer: str) -> EvaluateSae:
    return changed(task, sae=msgspec.structs.replace(task.sae, layer=layer))


def assert_same(result: EvaluationResult, figures: dict[str, float], tolerance: float = 1e-5) -> None:
    found = {name: getattr(result, name) for name in figures}
    # The share recovered is one of small differences between cross-entropies, which it is held against below.
    found.pop("ce_loss_recovered")
    expected = {name: figure for name, figure in figures.items() if name in found}
    assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)
    recovered, room = result.ce_loss_recovered, ce_room(result)
    assert recovered == pytest.approx((found["ce_loss_zero_ablated"] - found["ce_loss_reconstructed"]) / room)
    assert recovered is not None
    error = tolerance * found["ce_loss_original"] * (1 + abs(recovered)) / abs(room)
    assert recovered == pytest.approx(figures["ce_loss_recovered"], rel=tolerance, abs=2 * error)


def ce_room(result: EvaluationResult) -> float:
    """Return how much worse the model is with the layer zeroed."""
    assert result.ce_loss_zero_ablated is not None
    assert result.ce_loss_original is not None
    return result.ce_loss_zero_ablated - result.ce_loss_original


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize(("sae_class", "k"), [("TopKSae", K), ("L1Sae", None)])
def test_every_figure_is_that_of_plain_transformers_and_numpy_however_the_texts_are_padded(
    task: EvaluateSae,
    tiny_model_dir: Path,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    sae_class: str,
    k: int | None,
    side: str | None,
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm, sae_class)
    sae.sae_engine.encoder.final_block[0].bias[:5] = -1e3  # These never fire.
    result = evaluate_sae(task, recording_context, lm, sae)
    figures = ByHand(tiny_model_dir, "model.layers.0", NumpySae(sae, k), side).figures(TEXTS, MAX_LENGTH)
    assert set(figures) == {*FIGURES, "token_count", "predicted_token_count"}
    assert 0 < figures["dead_fraction"] < 1
    assert_same(result, figures)
    assert (result.sample_count, result.max_length, result.dead_window_tokens) == (6, 20, result.token_count)


@pytest.mark.parametrize(
    ("sae_class", "subtracts_bias"),
    [
        ("ReLUSae", True),
        ("BiasedTopKSae", True),
        ("BatchTopKSae", True),
        ("JumpReLUSae", True),
        ("JumpReLUSae", False),
    ],
)
def test_saes_with_a_decoder_bias_are_measured_as_they_are_after_training(
    task: EvaluateSae,
    tiny_model_dir: Path,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    sae_class: str,
    subtracts_bias: bool,
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm, sae_class)
    sae.sae_engine.subtracts_bias = subtracts_bias
    sae.sae_engine.decoder_bias.normal_(generator=torch.Generator().manual_seed(1))
    if hasattr(sae.sae_engine, "threshold"):
        sae.sae_engine.threshold.data.fill_(0.7)
    result = evaluate_sae(task, recording_context, lm, sae)
    figures = ByHand(tiny_model_dir, "model.layers.0", NumpyAffineSae(sae)).figures(TEXTS, MAX_LENGTH)
    assert_same(result, figures)


@pytest.mark.parametrize("path", ["model.layers.1", "model.layers.0.self_attn", "model.layers.1.mlp"])
def test_layers_of_any_kind_are_replaced_also_those_that_put_out_a_tuple(
    task: EvaluateSae,
    tiny_model_dir: Path,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    path: str,
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm)
    layer = f"llamaforcausallm_{path.replace('.', '_')}"
    result = evaluate_sae(of_layer(task, layer), recording_context, lm, sae)
    assert_same(result, ByHand(tiny_model_dir, path, NumpySae(sae, K)).figures(TEXTS, MAX_LENGTH))


class ByHandAtInput(ByHand):
    """Takes and replaces what the module reads."""

    def _run(self, ids: Tensor, mask: Tensor, instead: Tensor | None) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []

        def hook(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seen.append(args[0].clone())
            return args if instead is None else (instead,)

        handle = self.module.register_forward_pre_hook(hook)
        with torch.no_grad():
            logits = self.model(input_ids=ids, attention_mask=mask).logits
        handle.remove()
        return seen[0], logits


@pytest.mark.parametrize("path", ["model.layers.1.self_attn.o_proj", "model.layers.0"])
def test_what_a_module_reads_is_replaced_too(
    task: EvaluateSae,
    tiny_model_dir: Path,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    path: str,
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm)
    layer = f"llamaforcausallm_{path.replace('.', '_')}.input"
    result = evaluate_sae(of_layer(task, layer), recording_context, lm, sae)
    assert_same(result, ByHandAtInput(tiny_model_dir, path, NumpySae(sae, K)).figures(TEXTS, MAX_LENGTH))


def test_a_model_in_bfloat16_gets_the_reconstruction_in_its_own_precision(
    task: EvaluateSae,
    tiny_model_dir: Path,
    recording_context: RecordingContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "MAX_LOGITS", 1)  # Padding changes roundings in bfloat16.
    source = msgspec.structs.replace(task.language_model, dtype="BFLOAT16")
    lm = LanguageModels(device="cpu").get(source)
    sae = make_sae(lm, "L1Sae")
    result = evaluate_sae(task, recording_context, lm, sae)
    by_hand = ByHand(tiny_model_dir, "model.layers.0", NumpySae(sae, None), dtype=torch.bfloat16)
    assert_same(result, by_hand.figures(TEXTS, MAX_LENGTH), tolerance=1e-3)
    assert lm.model.dtype == torch.bfloat16


def test_batches_of_any_size_and_chunks_of_any_size_give_the_same(
    task: EvaluateSae,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm)
    together = evaluate_sae(task, RecordingContext(), lm, sae)
    monkeypatch.setattr(evaluation, "MAX_LOGITS", 1)
    monkeypatch.setattr(evaluation, "MAX_HOOK_LATENTS", 3 * N_LATENTS)
    alone = evaluate_sae(task, recording_context, lm, sae)
    assert_same(alone, {name: getattr(together, name) for name in (*FIGURES, "token_count")})
    progress = [event for event in recording_context.events if isinstance(event, Progress)]
    assert [(event.completed, event.total) for event in progress] == [(n, 6) for n in range(1, 7)]


class PerfectSae(DummySae):
    """Gives back what it gets."""

    def encode(self, x: Tensor) -> Tensor:
        """Return x itself."""
        return x

    def decode(self, x: Tensor) -> Tensor:
        """Return x itself."""
        return x


def test_a_perfect_sae_recovers_everything(
    task: EvaluateSae, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    lm = language_models.get(task.language_model)
    result = evaluate_sae(task, recording_context, lm, PerfectSae(32, 32))
    assert (result.ce_loss_recovered, result.kl_divergence_reconstructed) == (1.0, 0.0)
    assert result.ce_loss_reconstructed == result.ce_loss_original != result.ce_loss_zero_ablated
    assert (result.mse, result.explained_variance, result.dead_fraction) == (0.0, 1.0, 0.0)
    assert result.cosine_similarity == pytest.approx(1) == result.relative_reconstruction_bias


class ZeroSae(PerfectSae):
    """Reconstructs nothing."""

    def decode(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(x)


def test_an_sae_that_gives_zeros_recovers_nothing_and_its_bias_is_undefined(
    task: EvaluateSae, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    lm = language_models.get(task.language_model)
    result = evaluate_sae(task, recording_context, lm, ZeroSae(32, 32))
    assert result.ce_loss_recovered == 0.0
    assert result.ce_loss_reconstructed == result.ce_loss_zero_ablated
    assert result.relative_reconstruction_bias is None and result.cosine_similarity == 0.0


def test_offset_and_limit_choose_the_texts_and_their_hash_says_which(
    task: EvaluateSae,
    tiny_model_dir: Path,
    language_models: LanguageModels,
    recording_context: RecordingContext,
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm)
    some = evaluate_sae(changed(task, sample_offset=1, sample_limit=3), recording_context, lm, sae)
    assert_same(some, ByHand(tiny_model_dir, "model.layers.0", NumpySae(sae, K)).figures(TEXTS[1:4], 20))
    every = evaluate_sae(task, recording_context, lm, sae)
    assert some.sample_count == 2 and some.dataset.sha256 != every.dataset.sha256
    assert (some.dataset.sample_offset, some.dataset.sample_limit, some.dataset.sample_count) == (1, 3, 7)


def test_a_text_of_one_token_predicts_nothing_if_no_special_token_comes_before_it(
    task: EvaluateSae,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = language_models.get(task.language_model)
    monkeypatch.setattr(lm, "text_encoder", TextEncoder(lm.tokenizer, TextEdges()), raising=False)
    result = evaluate_sae(changed(task, sample_offset=5, sample_limit=1), recording_context, lm, make_sae(lm))
    assert (result.token_count, result.predicted_token_count) == (1, 0)
    assert result.ce_loss_original is None and result.kl_divergence_reconstructed is None
    assert result.explained_variance is None, "a single token does not vary"


@pytest.mark.parametrize(
    ("trained", "chosen", "why"),
    [
        (20, 20, "cut at 20 tokens, as in the run"),
        (None, 128, "cut at 128 tokens, as it was trained on no run"),
        (9999, 512, "cut at 512 tokens, which is as many as the language model takes"),
    ],
)
def test_texts_are_cut_as_in_the_training_and_the_log_says_where(
    task: EvaluateSae,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    trained: int | None,
    chosen: int,
    why: str,
) -> None:
    lm = language_models.get(task.language_model)
    result = evaluate_sae(changed(task, trained_max_length=trained), recording_context, lm, make_sae(lm))
    said = [event.message for event in recording_context.events if isinstance(event, Log)]
    assert result.max_length == chosen and why in said[0] and "1 without a token left out" in said[0]
    assert f"Measured on {result.token_count} tokens" in said[1] and len(said) == 2
    lengths = [len(lm.tokenizer(text)["input_ids"]) for text in TEXTS[task.sample_offset :]]
    n_cut = sum(length > chosen for length in lengths[: task.sample_limit])
    assert result.truncated_text_count == n_cut
    assert (f"{n_cut} texts are longer than {chosen} tokens and cut there" in said[0]) == (n_cut > 1)


def test_the_figures_are_noted_beside_the_checkpoint_and_the_next_ones_take_their_place(
    task: EvaluateSae, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    lm = language_models.get(task.language_model)
    path = Path(task.sae.directory) / "metadata.json"
    first = evaluate_sae(task, recording_context, lm, make_sae(lm))
    assert json.loads(path.read_text()) == {"seed": 7, "evaluation": first.to_json()}
    second = evaluate_sae(changed(task, sample_limit=2), recording_context, lm, make_sae(lm))
    assert json.loads(path.read_text()) == {"seed": 7, "evaluation": second.to_json()}
    assert second.dataset.sample_limit == 2
    path.unlink()
    evaluate_sae(task, recording_context, lm, make_sae(lm))
    assert not path.exists() and "no metadata.json" in str(recording_context.events[-1])


def test_a_canceled_evaluation_ends_between_passes_and_leaves_neither_hook_nor_figures(
    task: EvaluateSae, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    lm = language_models.get(task.language_model)
    hooked: list[int] = []

    def cancel_at_the_third_pass() -> None:
        hooked.append(len(lm.layers.get_hooks()))
        assert not torch.is_inference_mode_enabled(), "other requests may run in here"
        if len(hooked) == 4:
            raise CancelRequested

    recording_context.on_check = cancel_at_the_third_pass  # type: ignore[method-assign]
    with pytest.raises(CancelRequested):
        evaluate_sae(task, recording_context, lm, make_sae(lm))
    assert hooked == [0, 0, 0, 0] and not lm.layers.get_hooks()
    assert json.loads((Path(task.sae.directory) / "metadata.json").read_text()) == {"seed": 7}


@pytest.mark.parametrize(
    ("tensor", "what"), [("encoder_weight", "neurons' activations"), ("decoder_weight", "reconstructions")]
)
def test_an_sae_whose_values_are_not_finite_is_a_conflict_and_has_no_figures(
    task: EvaluateSae,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tensor: str,
    what: str,
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm, "ReLUSae")
    sae.id = "sae_1"
    getattr(sae.sae_engine, tensor).fill_(3e38)
    with pytest.raises(TaskError, match=f"SAE sae_1 gives {what} that are not finite") as error:
        evaluate_sae(task, recording_context, lm, sae)
    assert error.value.code == "CONFLICT"
    assert json.loads((Path(task.sae.directory) / "metadata.json").read_text()) == {"seed": 7}


def test_a_reconstruction_with_which_the_model_overflows_has_a_reason_in_the_log(
    task: EvaluateSae, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    lm = language_models.get(task.language_model)
    sae = make_sae(lm, "ReLUSae")
    sae.sae_engine.subtracts_bias = False
    sae.sae_engine.decoder_bias.fill_(3e38)
    # The tiny model's norm makes zeros of what is that large; here something before it overflows.
    handle = lm.model.model.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2 / 2,))
    try:
        result = evaluate_sae(task, recording_context, lm, sae)
    finally:
        handle.remove()
    assert result.mse == pytest.approx(9e76, rel=1e-3) and result.ce_loss_original is not None
    assert (result.ce_loss_reconstructed, result.kl_divergence_reconstructed) == (None, None)
    assert "the language model's numbers are out of range" in str(recording_context.events[-1])
    evaluate_sae(task, recording_context, lm, make_sae(lm))
    assert "out of range" not in str(recording_context.events[-1])


def test_another_attempt_says_that_it_begins_anew(
    task: EvaluateSae, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    lm = language_models.get(task.language_model)
    evaluate_sae(changed(task, attempt=2), recording_context, lm, make_sae(lm))
    assert recording_context.events[0] == Log("An evaluation is made in one go, so it begins anew.")


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"sample_offset": 2, "sample_limit": 1}, "INVALID", "No text is left to measure on"),
        ({"sample_offset": 99}, "INVALID", "No text is left to measure on"),
        ({"dataset_dir": "/nowhere"}, "FAILED", "call evaluateSae again"),
    ],
)
def test_texts_that_give_nothing_to_measure_end_it_with_a_sentence(
    task: EvaluateSae,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    changes: dict[str, Any],
    code: str,
    reason: str,
) -> None:
    lm = language_models.get(task.language_model)
    with pytest.raises(TaskError, match=reason) as error:
        evaluate_sae(changed(task, **changes), recording_context, lm, make_sae(lm))
    assert error.value.code == code


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("llamaforcausallm_model_layers_7", "has no layer"),
        ("llamaforcausallm_lm_head", "32 numbers per token"),
    ],
)
def test_an_sae_that_does_not_fit_the_layer_is_a_conflict(
    task: EvaluateSae,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    layer: str,
    reason: str,
) -> None:
    lm = language_models.get(task.language_model)
    with pytest.raises(TaskError, match=reason) as error:
        evaluate_sae(of_layer(task, layer), recording_context, lm, make_sae(lm))
    assert error.value.code == "CONFLICT" and LAYER not in error.value.reason
