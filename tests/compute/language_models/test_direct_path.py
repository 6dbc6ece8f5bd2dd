"""What a layer adds to the residual stream, against the bare models; and ends of models of other forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, NanoChatConfig, NanoChatForCausalLM

from gql_server.compute.indexing.direct_effects import direct_effects
from gql_server.compute.language_models.direct_path import direct_factor
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.unembedding import NoUnembedding, find_unembedding
from tests.compute.architectures import make_architecture
from tests.compute.layer_families import VOCABULARY, make_family

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.local_store import LocalStore

IDS = torch.tensor([[5, 9, 77, 3], [8, 4, 6, 31]])
Wrap = Callable[[Any], LanguageModel]


@pytest.fixture
def wrap(tiny_model_dir: Path, tmp_path: Path) -> Wrap:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    return lambda model: LanguageModel(model, tokenizer, LocalStore(str(tmp_path)), device="cpu")


@pytest.mark.parametrize(
    ("model", "layer", "norm", "expected"),
    [
        ("LlamaForCausalLM", "model.layers.0", "model.norm", 1.0),
        ("LlamaForCausalLM", "model.layers.0.self_attn", "model.norm", 1.0),
        ("LlamaForCausalLM", "model.layers.0.mlp.down_proj", "model.norm", 1.0),
        ("LlamaForCausalLM", "model.layers.0.input_layernorm", "model.norm", None),
        ("LlamaForCausalLM", "model.layers.0.self_attn.v_proj", "model.norm", None),
        # The residual stream is inside.
        ("BloomForCausalLM", "transformer.h.0.self_attention", "transformer.ln_f", 1.0),
        ("BloomForCausalLM", "transformer.h.0.mlp", "transformer.ln_f", 1.0),
        # Attention and MLP side by side.
        ("PhiForCausalLM", "model.layers.0.self_attn", "model.final_layernorm", 1.0),
        ("OPTForCausalLM", "model.decoder.layers.0.fc2", "model.decoder.final_layer_norm", 1.0),
        ("OPTForCausalLM", "model.decoder.layers.0.fc1", "model.decoder.final_layer_norm", None),
        ("MambaForCausalLM", "backbone.layers.0.mixer", "backbone.norm_f", 1.0),
        # Norms behind each branch and around the whole.
        ("BertLMHeadModel", "bert.encoder.layer.0", "cls.predictions.transform.LayerNorm", None),
        ("Gemma3nForCausalLM", "model.layers.0.mlp", "model.norm", None),
    ],
)
def test_what_a_layer_adds_is_measured_and_not_read_off_names(
    model: str, layer: str, norm: str, expected: float | None, wrap: Wrap
) -> None:
    lm = wrap(make_family(model))
    found = direct_factor(lm, lm.model.get_submodule(layer), lm.model.get_submodule(norm))
    assert found == expected
    assert not any(module._forward_hooks for module in lm.model.modules())


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("model.layers.0", 1.0),
        ("model.layers.0.self_attn", 0.25),
        ("model.layers.1.mlp", 0.25),
        ("model.embed_tokens", 12.0),
    ],
)
def test_factors_of_branches_are_in_it(
    layer: str, expected: float, tiny_model_dir: Path, tmp_path: Path, language_models: LanguageModels
) -> None:
    source = make_architecture("GraniteForCausalLM", tiny_model_dir, tmp_path)
    lm = language_models.get(source)
    lm.model.model.embedding_multiplier = 12.0
    found = direct_factor(lm, lm.model.get_submodule(layer), lm.model.model.norm)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("part", ["mlp", ""])
def test_at_the_last_block_it_is_the_change_of_what_the_final_norm_gets(
    dtype: torch.dtype, part: str, wrap: Wrap
) -> None:
    model: Any = make_family("LlamaForCausalLM")
    lm = wrap(model.to(dtype))
    layer = lm.model.get_submodule(f"model.layers.1.{part}".rstrip("."))
    change = torch.linspace(-4, 4, 32)

    def norm_input(more: float) -> Tensor:
        caught: list[Tensor] = []
        handles = [
            layer.register_forward_hook(lambda _, __, output: output + (more * change).to(output)),
            lm.model.model.norm.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0])),
        ]
        with torch.inference_mode():
            lm.model(input_ids=IDS)
        for handle in handles:
            handle.remove()
        return caught[0].float()

    factor = direct_factor(lm, layer, lm.model.model.norm)
    assert factor is not None
    torch.testing.assert_close(
        norm_input(1) - norm_input(0), factor * change.expand(2, 4, 32), atol=0.05, rtol=0.01
    )


class Head(nn.Module):
    """An output layer that is no nn.Linear."""

    def __init__(self, weight: Tensor, bent: bool = False) -> None:
        super().__init__()
        self.weight, self.bias, self._bent = nn.Parameter(weight), nn.Parameter(torch.ones(len(weight))), bent

    def forward(self, x: Tensor) -> Tensor:
        logits = x @ self.weight.T + self.bias
        return logits.tanh() if self._bent else logits


class Scaled(nn.Module):
    """An RMSNorm with other names, and nothing to multiply with but one plus an offset, or only a bias."""

    def __init__(self, offset: Tensor | None, bias: Tensor | None = None) -> None:
        super().__init__()
        self.offset = None if offset is None else nn.Parameter(offset)
        self.shift = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        x = x if self.offset is None else x * (1 + self.offset)
        return x if self.shift is None else x + self.shift


class Cut(nn.Module):
    """Something at a norm's place that is none."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1)


def llama() -> Any:
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config).eval()


BLOCK = "llamaforcausallm_model_layers_0"


@pytest.mark.parametrize(
    ("offset", "bias"), [(torch.linspace(-2, 2, 32), None), (None, torch.linspace(-1, 3, 32)), (None, None)]
)
def test_norms_of_any_form_and_linear_heads_of_any_class_are_told(
    offset: Tensor | None, bias: Tensor | None, wrap: Wrap
) -> None:
    model = llama()
    model.model.norm = Scaled(offset, bias)
    model.lm_head = Head(model.lm_head.weight.detach() * 3)
    unembedding = find_unembedding(wrap(model), BLOCK)
    directions = torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
    found = direct_effects(directions, unembedding, lambda completed, total: None)
    expected = directions * (1 if offset is None else 1 + offset) @ model.lm_head.weight.detach().T
    best = expected[:, : len(unembedding.weight)].topk(50, dim=1)
    torch.testing.assert_close(found["promoted_effects"], best.values, atol=1e-4, rtol=1e-3)


def without_head(model: Any) -> None:
    model.get_output_embeddings = lambda: None


def with_bent_head(model: Any) -> None:
    model.lm_head = Head(model.lm_head.weight.detach(), bent=True)


def with_cut(model: Any) -> None:
    model.model.norm = Cut()


def with_failing_end(model: Any) -> None:
    def fail(x: Tensor) -> Tensor:
        raise KeyError("a cache that is not there")

    model.lm_head.forward = fail


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_head, "has no output layer"),
        (with_bent_head, "output layer is not linear"),
        (with_cut, "does not come right after a final norm"),
        (with_failing_end, "failed on a few tokens"),
    ],
)
def test_an_end_that_cannot_be_told_is_said_and_not_raised(
    change: Callable[[Any], None], sentence: str, wrap: Wrap
) -> None:
    model = llama()
    lm = wrap(model)
    find_unembedding(lm, BLOCK)
    change(model)
    with pytest.raises(NoUnembedding, match=sentence):
        find_unembedding(lm, BLOCK)


def test_a_norm_that_comes_first_as_well_as_last_is_told(wrap: Wrap) -> None:
    torch.manual_seed(2)
    config = NanoChatConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = NanoChatForCausalLM(config).eval()
    unembedding = find_unembedding(wrap(model), "nanochatforcausallm_model_layers_0")
    assert torch.allclose(unembedding.gain, torch.ones(32), atol=1e-3)
    assert (unembedding.centers, unembedding.scale) == (False, 1.0)
