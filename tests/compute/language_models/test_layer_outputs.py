"""Layers whose output has another shape, runs more than once or is its input, against bare transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from gql_server.artifacts.manifest import read_manifest
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.layers import depth_order, describe_layers
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.hooks import ReplacementHook, SaeHook, attached
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import Edit, LanguageModelSource
from tests.architectures.configs import model_class, tiny_config
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.layer_families import save_family
from tests.compute.sae_fixtures import make_sae

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.local_store import LocalStore

TEXTS = ["The for statement is used to iterate.", "Strings", "A short text."]
IDS = torch.tensor([[5, 9, 77, 3], [8, 4, 6, 31]])
OTHER_SHAPES = [
    ("OPTForCausalLM", "model.decoder.layers.1.fc1"),
    ("OPTForCausalLM", "model.decoder.layers.1.fc2"),
    ("Llama4ForCausalLM", "model.layers.0.feed_forward"),
    ("Gemma3nForCausalLM", "model.layers.2"),
]
Load = Callable[[str], tuple[LanguageModel, LanguageModelSource]]


@pytest.fixture
def load(tiny_model_dir: Path, tmp_path: Path, language_models: LanguageModels) -> Load:
    def load(name: str) -> tuple[LanguageModel, LanguageModelSource]:
        source = save_family(name, tiny_model_dir, tmp_path)
        return language_models.get(source), source

    return load


def layer_name(model: str, path: str) -> str:
    """Return a layer's name for its module's path."""
    return f"{model.lower()}_{path.replace('.', '_')}"


def by_token(output: Any, n_texts: int) -> Tensor:
    """Return a bare output as [n_texts, n_positions, width]; of Gemma 3n's streams the active one."""
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    tensor = tensor[0] if tensor.ndim == 4 else tensor
    return tensor.reshape(n_texts, -1, tensor.shape[-1])


def bare_logits(
    lm: LanguageModel, path: str, change: Callable[[Tensor], Tensor] = torch.Tensor.clone
) -> Tensor:
    """Return the logits on IDS, with a torch hook that changes a module's vectors."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        changed = tensor.clone()
        (changed[0] if tensor.ndim == 4 else changed).copy_(
            change(by_token(tensor, 2)).reshape(tensor.shape[-3:] if tensor.ndim == 4 else tensor.shape)
        )
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = lm.model.get_submodule(path).register_forward_hook(hook)
    try:
        with torch.inference_mode():
            logits: Tensor = lm.model(input_ids=IDS, use_cache=False).logits.clone()
    finally:
        handle.remove()
    return logits


@pytest.mark.parametrize(("model", "path"), OTHER_SHAPES)
def test_a_capture_stores_each_tokens_vector_whatever_the_outputs_shape(
    model: str, path: str, load: Load, tmp_path: Path, language_models: LanguageModels
) -> None:
    _, source = load(model)
    layer = layer_name(model, path)
    task = capture_task(source, tmp_path, TEXTS, layers=[layer], batch_size=2)
    capture_activations(task, RecordingContext(), language_models)
    store = ActivationStore(Path(task.store_dir))
    bare: Any = AutoModelForCausalLM.from_pretrained(source.location)
    tokenizer = AutoTokenizer.from_pretrained(source.location)
    caught: list[Any] = []
    bare.get_submodule(path).register_forward_hook(lambda _, __, output: caught.append(output))
    seen = 0
    for batch in read_manifest(store.manifest_path("run_a")).batches:
        activations = store.read_activations("run_a", batch.index, layer)
        for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            with torch.no_grad():
                bare(input_ids=torch.tensor([tokenizer(TEXTS[row])["input_ids"]]))
            expected = by_token(caught.pop(), 1)[0]
            assert len(expected) == length
            np.testing.assert_allclose(activations[place, :length], expected.detach(), atol=2e-5)
            seen += 1
    assert seen == 3


@pytest.mark.parametrize(("model", "path"), OTHER_SHAPES[1:])
@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_steering_changes_each_tokens_vector_whatever_the_outputs_shape(
    model: str, path: str, mode: Any, load: Load
) -> None:
    lm, _ = load(model)
    sae = make_sae(lm)
    edit_mask = torch.tensor([[True, True, False, True], [False, True, True, True]])
    hook = SaeHook(sae, mode, [Edit(7, 1.0, 3.0)])
    hook.edit_mask = edit_mask

    def steer(vectors: Tensor) -> Tensor:
        latents: Tensor = sae.encode(vectors.reshape(-1, 32)).view(2, 4, -1)
        edited = latents.clone()
        edited[..., 7] += 3.0 * edit_mask
        decoded: Tensor = sae.decode(edited.view(8, -1)).view(2, 4, 32)
        if mode == "RECONSTRUCTION":
            return decoded
        before: Tensor = sae.decode(latents.view(8, -1)).view(2, 4, 32)
        return vectors + decoded - before

    with attached(lm, layer_name(model, path), hook):
        found = bare_logits(lm, path)
    torch.testing.assert_close(found, bare_logits(lm, path, steer), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, bare_logits(lm, path), atol=1e-3)


@pytest.mark.parametrize(("model", "path"), OTHER_SHAPES)
def test_a_replacement_is_put_in_each_vectors_place_whatever_the_outputs_shape(
    model: str, path: str, load: Load
) -> None:
    lm, _ = load(model)
    hook = ReplacementHook(2)
    with attached(lm, layer_name(model, path), hook):
        own = bare_logits(lm, path)
        assert hook.output is not None
        hook.replacement = hook.output.flip(1)
        replaced = bare_logits(lm, path)
    assert hook.output.shape[:2] == IDS.shape
    torch.testing.assert_close(own, bare_logits(lm, path))
    torch.testing.assert_close(replaced, bare_logits(lm, path, lambda vectors: vectors.flip(1)))


def test_a_module_that_runs_twice_in_a_pass_is_left_out_and_refused_by_its_reason(load: Load) -> None:
    lm, _ = load("PhiForCausalLM")
    layer = "phiforcausallm_model_layers_1_resid_dropout"
    assert layer in lm.layers.name_to_layer
    assert layer not in {described.name for described in describe_layers(lm)}
    with pytest.raises(TaskError, match="runs 2 times while a text goes through") as raised:
        depth_order(lm, ["phiforcausallm_model_layers_1", layer])
    assert (raised.value.code, raised.value.path) == ("INVALID", ["layers", "1"])
    with (
        pytest.raises(TaskError, match="runs 2 times while a text goes through") as refused,
        attached(lm, layer, SaeHook(make_sae(lm))),
    ):
        pass
    assert refused.value.code == "CONFLICT"


@pytest.mark.parametrize(
    ("model", "layer", "sentence"),
    [
        ("BartForCausalLM", "model_decoder_layers_0_encoder_attn", "does not run when a text goes through"),
        ("MambaForCausalLM", "backbone_layers_0_mixer_conv1d", "does not"),
        ("MixtralForCausalLM", "model_layers_0_self_attn_nothing", "has no layer"),
    ],
)
def test_what_cannot_be_captured_is_refused_by_its_reason(
    model: str, layer: str, sentence: str, load: Load
) -> None:
    lm, _ = load(model)
    with pytest.raises(TaskError, match=sentence):
        depth_order(lm, [f"{model.lower()}_{layer}"])


def _load_architecture(
    model_type: str, tokenizer_dir: Path, directory: Path, language_models: LanguageModels
) -> LanguageModel:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    torch.manual_seed(3)
    model = model_class(model_type)(tiny_config(model_type, len(tokenizer), {"pad_token_id": 2}))
    for saved in (model, tokenizer):
        saved.save_pretrained(directory / "model")
    place, copy_dir = str(directory / "model"), str(directory / "copy")
    return language_models.get(LanguageModelSource("lm_a", "DIRECTORY", place, None, "FLOAT32", copy_dir))


def test_scores_of_other_tokens_are_no_vectors(
    tiny_model_dir: Path, tmp_path: Path, language_models: LanguageModels
) -> None:
    lm = _load_architecture("deepseek_v4", tiny_model_dir, tmp_path, language_models)
    scorer = "deepseekv4forcausallm_model_layers_3_self_attn_compressor_indexer_scorer"
    widths: list[int] = []
    lm.layers.name_to_layer[scorer].register_forward_hook(
        lambda module, inputs, output: widths.append(output.shape[-1])
    )
    for n_tokens in (8, 16):
        lm.model(input_ids=torch.arange(n_tokens)[None], use_cache=False)
    assert widths[0] < widths[1]
    assert scorer not in {layer.name for layer in describe_layers(lm)}
    with pytest.raises(TaskError, match="does not give one vector per token"):
        depth_order(lm, [scorer])


def test_no_layer_of_a_model_that_padding_moves_can_be_captured(
    tiny_model_dir: Path, tmp_path: Path, language_models: LanguageModels
) -> None:
    """CPM-Ant puts texts to the end of a row, by where the token 0 stands and not by the mask."""
    lm = _load_architecture("cpmant", tiny_model_dir, tmp_path, language_models)
    ids, padding = torch.arange(5, 12)[None], torch.full((1, 4), 2)
    mask = torch.cat([torch.ones_like(ids), torch.zeros_like(padding)], dim=1)
    padded = lm.model(input_ids=torch.cat([ids, padding], dim=1), attention_mask=mask, use_cache=False)
    alone = lm.model(input_ids=ids, use_cache=False).logits
    assert not torch.allclose(padded.logits[:, :7], alone, atol=0.01)
    assert describe_layers(lm) == []
    with pytest.raises(TaskError, match="other numbers for a text that stands beside a longer one"):
        depth_order(lm, ["cpmantforcausallm_cpmant_encoder_layers_0"])


def test_experts_put_out_vectors_in_the_order_of_the_texts(load: Load) -> None:
    lm, _ = load("MixtralForCausalLM")
    layers = {described.name: described for described in describe_layers(lm)}
    assert layers["mixtralforcausallm_model_layers_0_mlp_experts"].width == 32
    assert layers["mixtralforcausallm_model_layers_0_mlp_experts"].kind == "OTHER"


def test_steering_a_module_that_returns_its_input_leaves_the_input_to_others(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=600, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    model.model.layers[0].post_attention_layernorm = nn.Identity()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    lm = LanguageModel(model, tokenizer, LocalStore(str(tmp_path)), device="cpu")
    path, hook = "model.layers.0.post_attention_layernorm", ReplacementHook(2)
    with attached(lm, layer_name("LlamaForCausalLM", path), hook):
        bare_logits(lm, path)
        assert hook.output is not None
        hook.replacement = hook.output * 3
        found = bare_logits(lm, path)
    torch.testing.assert_close(found, bare_logits(lm, path, lambda vectors: vectors * 3))
