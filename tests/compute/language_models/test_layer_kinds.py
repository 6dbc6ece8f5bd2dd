"""What part of a model each layer is, for families of models whose blocks are made in different ways."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from gql_server.compute.language_models.layers import describe_layers
from gql_server.protocol.results import LayerDescription
from tests.compute.layer_families import FAMILIES, make_family

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.local_store import LocalStore


@pytest.fixture
def tokenizer(tiny_model_dir: Path) -> object:
    """Give the tiny model's tokenizer."""
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def described(name: str, tokenizer: object, tmp_path: Path) -> list[LayerDescription]:
    """Describe the layers of a model of a family, their names without the model's."""
    lm = LanguageModel(make_family(name), tokenizer, LocalStore(str(tmp_path)), device="cpu")
    prefix = f"{name.lower()}_"
    return [
        LayerDescription(
            layer.name.removeprefix(prefix), layer.kind, layer.depth, layer.module_class, layer.width
        )
        for layer in describe_layers(lm)
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_each_block_and_its_parts_are_told_once(name: str, tokenizer: object, tmp_path: Path) -> None:
    family = FAMILIES[name]
    layers = described(name, tokenizer, tmp_path)

    def found(kind: str) -> list[tuple[str, int | None]]:
        return sorted((layer.name, layer.depth) for layer in layers if layer.kind == kind)

    def expected(parts: dict[int, list[str]]) -> list[tuple[str, int]]:
        block = family.blocks.replace("*", "{}")
        return sorted((f"{block.format(n)}_{part}", n) for n, names in parts.items() for part in names)

    assert found("BLOCK") == [
        (family.blocks.replace("*", str(number)), number) for number in range(family.n_blocks)
    ]
    if name == "XLMWithLMHeadModel":
        # Its parts are in lists of their own beside each other.
        assert found("ATTENTION") == [("transformer_attentions_0", 0), ("transformer_attentions_1", 1)]
        assert found("MLP") == [("transformer_ffns_0", 0), ("transformer_ffns_1", 1)]
    else:
        assert found("ATTENTION") == expected(family.attention)
        assert found("MIXER") == expected(family.mixer)
        assert found("MLP") == expected(family.mlp)
    assert len(found("HEAD")) == 1
    assert found("EMBEDDING")
    assert {layer.width for layer in layers if layer.kind in ("BLOCK", "ATTENTION", "MIXER", "MLP")} == {32}


def test_layers_beside_the_blocks_belong_to_none(tokenizer: object, tmp_path: Path) -> None:
    layers = described("Gemma3nForCausalLM", tokenizer, tmp_path)
    projections = [layer for layer in layers if layer.name.startswith("model_altup_")]
    assert {(layer.kind, layer.depth) for layer in projections} == {("OTHER", None)}
    assert len(projections) == 6


def test_a_wrapper_with_norm_in_its_class_name_is_no_norm(tokenizer: object, tmp_path: Path) -> None:
    layers = described("RobertaPreLayerNormForCausalLM", tokenizer, tmp_path)
    norms = {layer.name for layer in layers if layer.kind == "NORM"}
    assert {layer.module_class for layer in layers if layer.kind == "NORM"} == {"LayerNorm"}
    assert "roberta_prelayernorm_encoder_layer_0_attention_LayerNorm" in norms
