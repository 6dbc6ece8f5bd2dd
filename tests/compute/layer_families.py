"""Tiny language models of families that differ in what their blocks are made of, and what each part is.

The kinds are written by hand, from transformers' modeling files.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, PreTrainedModel

from gql_server.protocol.sources import LanguageModelSource

VOCABULARY = 600
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
_DECODER = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
}


@dataclass(frozen=True)
class Family:
    """A model class with its configuration; names in the blocks are without the model's and the block's."""

    config: str
    values: dict[str, Any]
    blocks: str
    """The name of the blocks, with * for their number."""
    attention: dict[int, list[str]]
    """By block."""
    mixer: dict[int, list[str]] = field(default_factory=dict)
    mlp: dict[int, list[str]] = field(default_factory=dict)

    @property
    def n_blocks(self) -> int:
        """Return how many blocks there are."""
        return len(self.attention)


def _both(*names: str) -> dict[int, list[str]]:
    return {0: list(names), 1: list(names)}


_NONE = _both()
FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(
        "LlamaConfig", _COMMON, "model_layers_*", _both("self_attn"), mlp=_both("mlp")
    ),
    "GPTNeoForCausalLM": Family(
        "GPTNeoConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
        },
        "transformer_h_*",
        _both("attn"),
        mlp=_both("mlp"),
    ),
    "OPTForCausalLM": Family(
        "OPTConfig",
        _COMMON | {"ffn_dim": 48, "word_embed_proj_dim": 32},
        "model_decoder_layers_*",
        _both("self_attn"),
        mlp=_both("fc2"),
    ),
    "XGLMForCausalLM": Family(
        "XGLMConfig",
        {"vocab_size": VOCABULARY, "d_model": 32, "num_layers": 2, "attention_heads": 2, "ffn_dim": 48},
        "model_layers_*",
        _both("self_attn"),
        mlp=_both("fc2"),
    ),
    "BioGptForCausalLM": Family(
        "BioGptConfig", _COMMON, "biogpt_layers_*", _both("self_attn"), mlp=_both("fc2")
    ),
    "BartForCausalLM": Family(
        "BartConfig", _DECODER, "model_decoder_layers_*", _both("self_attn"), mlp=_both("fc2")
    ),
    "BertLMHeadModel": Family(
        "BertConfig",
        _COMMON | {"is_decoder": True},
        "bert_encoder_layer_*",
        _both("attention"),
        mlp=_both("output_dense"),
    ),
    "RobertaPreLayerNormForCausalLM": Family(
        "RobertaPreLayerNormConfig",
        _COMMON | {"is_decoder": True},
        "roberta_prelayernorm_encoder_layer_*",
        _both("attention"),
        mlp=_both("output_dense"),
    ),
    "BloomForCausalLM": Family(
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 2},
        "transformer_h_*",
        _both("self_attention"),
        mlp=_both("mlp"),
    ),
    "PhiForCausalLM": Family("PhiConfig", _COMMON, "model_layers_*", _both("self_attn"), mlp=_both("mlp")),
    "DbrxForCausalLM": Family(
        "DbrxConfig",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "n_heads": 2,
            "n_layers": 2,
            "attn_config": {"kv_n_heads": 1, "clip_qkv": 8.0, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
        },
        "transformer_blocks_*",
        _both("norm_attn_norm_attn"),
        mlp=_both("ffn"),
    ),
    "Llama4ForCausalLM": Family(
        "Llama4TextConfig",
        _COMMON | {"head_dim": 16, "intermediate_size_mlp": 48, "num_local_experts": 4, "pad_token_id": 2},
        "model_layers_*",
        _both("self_attn"),
        mlp=_both("feed_forward"),
    ),
    "MixtralForCausalLM": Family(
        "MixtralConfig",
        _COMMON | {"num_local_experts": 4},
        "model_layers_*",
        _both("self_attn"),
        mlp=_both("mlp"),
    ),
    "MambaForCausalLM": Family(
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        "backbone_layers_*",
        _NONE,
        _both("mixer"),
    ),
    "Lfm2ForCausalLM": Family(
        "Lfm2Config",
        _COMMON | {"layer_types": ["conv", "full_attention"]},
        "model_layers_*",
        {0: [], 1: ["self_attn"]},
        {0: ["conv"], 1: []},
        _both("feed_forward"),
    ),
    "RwkvForCausalLM": Family(
        "RwkvConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "attention_hidden_size": 32,
        },
        "rwkv_blocks_*",
        _both("attention"),
        mlp=_both("feed_forward"),
    ),
    "RecurrentGemmaForCausalLM": Family(
        "RecurrentGemmaConfig",
        _COMMON | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16},
        "model_layers_*",
        {0: [], 1: [], 2: ["temporal_block"]},
        {0: ["temporal_block"], 1: ["temporal_block"], 2: []},
        {number: ["mlp_block"] for number in range(3)},
    ),
    "FalconH1ForCausalLM": Family(
        "FalconH1Config",
        _COMMON
        | {
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_ssm": 64,
            "mamba_d_state": 4,
            "mamba_chunk_size": 8,
        },
        "model_layers_*",
        _both("self_attn"),
        _both("mamba"),
        _both("feed_forward"),
    ),
    "Qwen3NextForCausalLM": Family(
        "Qwen3NextConfig",
        _COMMON
        | {
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        "model_layers_*",
        {0: ["linear_attn"], 1: ["self_attn"]},
        mlp=_both("mlp"),
    ),
    "Gemma3nForCausalLM": Family(
        "Gemma3nTextConfig",
        _COMMON
        | {
            "num_hidden_layers": 5,
            "head_dim": 16,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "num_kv_shared_layers": 0,
            "laurel_rank": 8,
        },
        "model_layers_*",
        {number: ["self_attn"] for number in range(5)},
        mlp={number: ["mlp"] for number in range(5)},
    ),
    "XLMWithLMHeadModel": Family(
        "XLMConfig",
        {"vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 2, "n_heads": 2},
        "transformer_layer_norm2_*",
        _NONE,
    ),
}


def make_family(name: str) -> PreTrainedModel:
    """Make a model of a family with random weights."""
    family = FAMILIES[name]
    config = getattr(transformers, family.config)(
        bos_token_id=0, eos_token_id=1, **({"pad_token_id": 2} | family.values)
    )
    torch.manual_seed(7)
    model: PreTrainedModel = getattr(transformers, name)(config).eval()
    return model


def save_family(name: str, tiny_model_dir: Path, directory: Path) -> LanguageModelSource:
    """Save a model of a family with the tiny model's tokenizer, and return it as a task names it."""
    make_family(name).save_pretrained(directory / name)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(directory / name)
    copy = str(directory / f"{name}-copy")
    return LanguageModelSource(f"lm_{name}", "DIRECTORY", str(directory / name), None, "FLOAT32", copy)
