"""Loading weights: nothing that a checkpoint does not have is made up."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.worker.context import TaskError
from gql_server.compute.worker.task_runner import TaskRunner
from gql_server.protocol.events import Log
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import LoadLanguageModel
from tests.compute.conftest import RecordingContext
from tests.support.tiny_gguf import make_tiny_gguf

_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
_BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "decoder_attention_heads": 2}
_GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2}


def made(name: str, tiny_model_dir: Path, directory: Path, **config: Any) -> LanguageModelSource:
    """Save a random model of any class of transformers beside the tiny model's tokenizer."""
    model_class = getattr(transformers, name)
    torch.manual_seed(3)
    model = model_class(model_class.config_class(**config))
    return saved(model, tiny_model_dir, directory)


def saved(model: PreTrainedModel, tiny_model_dir: Path, directory: Path) -> LanguageModelSource:
    model.save_pretrained(directory / "model")
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(directory / "model")
    return source_of(directory / "model")


def source_of(directory: Path) -> LanguageModelSource:
    copy = str(directory.parent / "copy")
    return LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", copy)


def changed(
    tiny_model_dir: Path, directory: Path, change: Callable[[dict[str, Tensor]], object]
) -> LanguageModelSource:
    """Return a copy of the tiny Llama with other weights."""
    copy = shutil.copytree(tiny_model_dir, directory / "model")
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return source_of(copy)


def reason_of(source: LanguageModelSource) -> str:
    with pytest.raises(TaskError) as raised:
        LanguageModels(device="cpu").get(source)
    assert raised.value.code == "CONFLICT"
    assert raised.value.reason.startswith("The language model model could not be loaded: ")
    return raised.value.reason


def test_a_checkpoint_without_its_output_layer_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    reason = reason_of(changed(tiny_model_dir, tmp_path, lambda weights: weights.pop("lm_head.weight")))
    assert "The checkpoint lacks 1 weight of LlamaForCausalLM: lm_head.weight." in reason


def test_a_checkpoint_without_a_layer_is_refused_with_names_and_their_number(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    gone: list[str] = []

    def without_layer_1(weights: dict[str, Tensor]) -> None:
        gone.extend(sorted(name for name in weights if ".layers.1." in name))
        for name in gone:
            del weights[name]

    reason = reason_of(changed(tiny_model_dir, tmp_path, without_layer_1))
    assert (
        f"lacks {len(gone)} weights of LlamaForCausalLM: {', '.join(gone[:5])} and {len(gone) - 5} more."
        in reason
    )


def test_a_pickled_checkpoint_without_weights_is_refused_too(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    del weights["model.norm.weight"]
    torch.save(weights, directory / "pytorch_model.bin")
    assert "lacks 1 weight of LlamaForCausalLM: model.norm.weight." in reason_of(source_of(directory))


def test_a_weight_of_another_shape_is_named_with_both_shapes(tiny_model_dir: Path, tmp_path: Path) -> None:
    def cut(weights: dict[str, Tensor]) -> None:
        weights["model.norm.weight"] = weights["model.norm.weight"][:3].clone()

    reason = reason_of(changed(tiny_model_dir, tmp_path, cut))
    assert "model.norm.weight is [3] instead of [32]" in reason
    assert "ignore_mismatched_sizes" not in reason and "report" not in reason


@pytest.mark.parametrize("cut", [True, False])
def test_an_expert_that_is_missing_or_misshaped_is_told(
    tiny_model_dir: Path, tmp_path: Path, cut: bool
) -> None:
    more = {"num_key_value_heads": 2, "num_local_experts": 3, "vocab_size": 600}
    source = made("MixtralForCausalLM", tiny_model_dir, tmp_path, **_SMALL, **more)
    weights = load_file(Path(source.location) / "model.safetensors")
    name = next(name for name in weights if "layers.1." in name and "experts.1.w2" in name)
    weight = weights.pop(name)
    if cut:
        weights[name] = weight[:3].clone()
    save_file(weights, Path(source.location) / "model.safetensors", metadata={"format": "pt"})
    reason = reason_of(source)
    assert "model.layers.1.mlp.experts.down_proj" in reason
    assert "report" not in reason and "Traceback" not in reason


def test_weights_that_the_model_has_no_place_for_are_a_line_in_the_load_s_log(
    tiny_model_dir: Path, tmp_path: Path, recording_context: RecordingContext
) -> None:
    extra = {f"extra.{index}.weight": torch.ones(2) for index in range(7)}
    source = changed(tiny_model_dir, tmp_path, lambda weights: weights.update(extra))
    TaskRunner(lambda change: None, "cpu").do(LoadLanguageModel(source), recording_context)
    notes = [event.message for event in recording_context.events if isinstance(event, Log)]
    shown = ", ".join(list(extra)[:5])
    assert (
        notes[0]
        == f"Not used: 7 weights of the checkpoint that the model has no place for: {shown} and 2 more."
    )


def test_a_base_model_with_a_tied_embedding_has_all_it_needs(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = made("GPT2Model", tiny_model_dir, tmp_path, **_GPT2, vocab_size=600)
    lm = LanguageModels(device="cpu").get(source)
    ids = torch.tensor([[5, 9, 300]])
    base = transformers.GPT2Model.from_pretrained(source.location)
    with torch.inference_mode():
        expected = base(ids).last_hidden_state @ base.wte.weight.T
        assert torch.allclose(lm.model(ids).logits, expected, atol=1e-5)


def test_a_base_model_without_an_output_layer_is_named(tiny_model_dir: Path, tmp_path: Path) -> None:
    reason = reason_of(made("LlamaModel", tiny_model_dir, tmp_path, **_SMALL, vocab_size=600))
    assert "lm_head.weight. Its config.json names LlamaModel: a base model without an output layer." in reason


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [
        ("BartForConditionalGeneration", _BART, "an encoder-decoder model"),
        (
            "T5ForConditionalGeneration",
            {"d_model": 16, "num_layers": 1, "d_ff": 16},
            "an encoder-decoder model",
        ),
        ("BertForMaskedLM", _SMALL, "a masked language model"),
        ("RobertaForMaskedLM", _SMALL, "a masked language model"),
        ("DistilBertForMaskedLM", {"dim": 16, "n_layers": 1, "n_heads": 2}, "a masked language model"),
        ("LlamaForSequenceClassification", _SMALL, "a sequence classifier"),
        ("GPT2ForTokenClassification", _GPT2, "a token classifier"),
        ("ViTForImageClassification", _SMALL, "an image classifier"),
        ("ViTModel", _SMALL, "a vit model"),
    ],
)
def test_a_model_of_another_kind_is_refused_with_what_it_is(
    tiny_model_dir: Path, tmp_path: Path, name: str, config: dict[str, Any], kind: str
) -> None:
    reason = reason_of(made(name, tiny_model_dir, tmp_path, **config))
    assert f"It is {kind} ({name})" in reason


@pytest.mark.parametrize("name", ["BertLMHeadModel", "RobertaForCausalLM", "XLMWithLMHeadModel"])
def test_a_model_that_reads_ahead_is_refused_whatever_its_class_is_called(
    tiny_model_dir: Path, tmp_path: Path, name: str
) -> None:
    config = {"emb_dim": 16, "n_layers": 1, "n_heads": 2} if name.startswith("XLM") else _SMALL
    reason = reason_of(made(name, tiny_model_dir, tmp_path, **config, vocab_size=600))
    assert f"It is a masked language model ({name})" in reason


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("BertLMHeadModel", {**_SMALL, "is_decoder": True}),
        ("RobertaForCausalLM", {**_SMALL, "is_decoder": True}),
        ("BartForCausalLM", _BART),
    ],
)
def test_the_decoder_of_such_a_kind_loads_as_it_is(
    tiny_model_dir: Path, tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    source = made(name, tiny_model_dir, tmp_path, **config, vocab_size=600)
    lm = LanguageModels(device="cpu").get(source)
    bare = AutoModelForCausalLM.from_pretrained(source.location).eval()
    ids = torch.tensor([[5, 9, 300]])
    with torch.inference_mode():
        assert torch.equal(lm.model(ids).logits, bare(ids).logits)


def test_a_config_that_names_no_class_is_judged_by_what_the_model_does(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    source = made("BertForMaskedLM", tiny_model_dir, tmp_path, **_SMALL, vocab_size=600)
    file = Path(source.location) / "config.json"
    config = json.loads(file.read_text())
    del config["architectures"]
    file.write_text(json.dumps(config))
    assert "It is a masked language model (BertLMHeadModel)" in reason_of(source)


def gguf_source(file: Path) -> LanguageModelSource:
    return LanguageModelSource("lm_x", "GGUF", str(file), None, "FLOAT32", str(file.parent / "copy"))


def test_a_complete_gguf_gives_the_model_it_was_made_of(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = gguf_source(make_tiny_gguf(tiny_model_dir, tmp_path / "model.gguf"))
    lm = LanguageModels(device="cpu").get(source)
    bare = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    ids = torch.tensor([[5, 9, 300, 7]])
    with torch.inference_mode():
        assert torch.allclose(lm.model(ids).logits, bare(ids).logits, atol=1e-4)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_gguf_without_a_weight_is_refused_and_leaves_no_copy(
    tiny_model_dir: Path, tmp_path: Path, name: str
) -> None:
    source = gguf_source(make_tiny_gguf(tiny_model_dir, tmp_path / "model.gguf", without=name))
    with pytest.raises(TaskError) as raised:
        LanguageModels(device="cpu").get(source)
    assert f"lacks 1 weight of LlamaForCausalLM: {name}." in raised.value.reason
    assert list((tmp_path / "copy").iterdir()) == []
