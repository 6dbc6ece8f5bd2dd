"""Tiny language models of several architectures, with norms and biases that are not those of the start."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from gql_server.protocol.sources import LanguageModelSource

_LLAMA_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", _LLAMA_LIKE),
    "Gemma2ForCausalLM": ("Gemma2Config", _LLAMA_LIKE),
    "CohereForCausalLM": ("CohereConfig", _LLAMA_LIKE | {"logit_scale": 0.25}),
    "GraniteForCausalLM": (
        "GraniteConfig",
        _LLAMA_LIKE | {"logits_scaling": 8.0, "residual_multiplier": 0.25},
    ),
    "OlmoForCausalLM": ("OlmoConfig", _LLAMA_LIKE),
    "MiniCPM3ForCausalLM": (
        "MiniCPM3Config",
        _LLAMA_LIKE
        | {
            "dim_model_base": 8,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
        },
    ),
    "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    "OPTForCausalLM": (
        "OPTConfig",
        {
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "word_embed_proj_dim": 16,
        },
    ),
    "Lfm2ForCausalLM": (
        "Lfm2Config",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "layer_types": ["conv", "full_attention"],
        },
    ),
    "Qwen3NextForCausalLM": (
        "Qwen3NextConfig",
        _LLAMA_LIKE
        | {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "num_experts": 0,
        },
    ),
    "MiniMaxForCausalLM": (
        "MiniMaxConfig",
        _LLAMA_LIKE | {"layer_types": ["linear_attention", "full_attention"], "num_local_experts": 2},
    ),
    "MambaForCausalLM": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
    "RecurrentGemmaForCausalLM": (
        "RecurrentGemmaConfig",
        {
            "hidden_size": 32,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "lru_width": 32,
            "attention_window_size": 16,
        },
    ),
    "RwkvForCausalLM": (
        "RwkvConfig",
        {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48},
    ),
    "OpenAIGPTLMHeadModel": ("OpenAIGPTConfig", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    "XLNetLMHeadModel": ("XLNetConfig", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48}),
    "BartForCausalLM": (
        "BartConfig",
        {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 48},
    ),
}
PADDING_ROWS = 8
"""Rows of the unembedding that the tokenizer has no token for."""


def make_architecture(
    name: str, tokenizer_dir: Path, directory: Path, dtype: str = "FLOAT32"
) -> LanguageModelSource:
    """Save a random model of an architecture with the tiny model's tokenizer."""
    config_name, more = CONFIGS[name]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_dir)
    special = {f"{word}_token_id": getattr(tokenizer, f"{word}_token_id") for word in ("bos", "eos", "pad")}
    config = getattr(transformers, config_name)(
        vocab_size=len(tokenizer) + PADDING_ROWS, initializer_range=0.2, **special, **more
    )
    torch.manual_seed(5)
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(directory / name)
    tokenizer.save_pretrained(directory / name)
    return LanguageModelSource(
        id=f"lm_{name}",
        kind="DIRECTORY",
        location=str(directory / name),
        revision=None,
        dtype=dtype,
        copy_dir=str(directory / f"{name}-copy"),
    )
