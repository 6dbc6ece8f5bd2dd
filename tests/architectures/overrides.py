"""Sizes of tiny models by the names that configurations have for them, and what single models need."""

from typing import Any

_NAMES: list[tuple[float, str]] = [
    (
        32,
        "hidden_size n_embd d_model dim_model emb_dim embedding_dim embedding_size "
        "word_embed_proj_dim lru_width",
    ),
    (
        2,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers "
        "num_decoder_layers num_encoder_layers num_blocks depth",
    ),
    (
        4,
        "num_attention_heads n_head n_heads num_heads decoder_attention_heads "
        "encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads "
        "attention_heads",
    ),
    (2, "num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads"),
    (4, "linear_num_value_heads linear_num_heads index_n_heads"),
    (
        8,
        "head_dim dim_head d_head attention_head_size global_head_dim swa_head_dim v_head_dim "
        "qk_nope_head_dim qk_rope_head_dim linear_key_head_dim linear_value_head_dim index_head_dim "
        "mamba_d_head mamba_head_dim mamba_headdim rotary_dim",
    ),
    (
        48,
        "intermediate_size ffn_dim n_inner decoder_ffn_dim encoder_ffn_dim ffn_hidden_size dim_ff "
        "dff d_inner feed_forward_size intermediate_size_mlp dense_intermediate_size",
    ),
    (
        16,
        "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size "
        "moe_shared_expert_intermediate_size shared_experts_intermediate_size "
        "shared_intermediate_size router_hidden_size",
    ),
    (4, "num_experts num_local_experts n_routed_experts moe_num_experts zero_expert_num"),
    (2, "num_experts_per_tok num_experts_per_token moe_top_k moe_k moe_topk top_k_experts"),
    (1, "n_shared_experts n_group topk_group moe_num_shared_experts"),
    (16, "kv_lora_rank q_lora_rank o_lora_rank gated_norm_rank"),
    (
        256,
        "max_position_embeddings n_positions n_ctx seq_length max_seq_len context_length "
        "max_target_positions",
    ),
    (16, "sliding_window window_size attention_window_size local_attention attention_chunk_size"),
    (8, "state_size mamba_d_state ssm_state_size"),
    (0.2, "initializer_range init_std embed_init_std"),
]
SIZES: dict[str, float] = {name: value for value, names in _NAMES for name in names.split()}
"""Values by name, taken where a configuration has a value of that name."""

_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_chunk_size": 8}
OVERRIDES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"n_group": 1, "num_local_experts": 4, "linear_head_dim": 8, "linear_num_heads": 4},
    "bamba": _MAMBA2 | {"attn_layer_indices": [1]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "cpmant": {"prompt_types": 4, "prompt_length": 2},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"num_local_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "dots3_note_text": {
        "num_hidden_layers": 2,
        "mlp_layer_types": ["dense", "sparse"],
        "use_sliding_window": False,
        "layer_types": ["indexed_attention"] * 2,
        "rope_parameters": {"indexed_attention": {"rope_type": "default", "rope_theta": 1e4}},
        "per_layer_config": {},
    },
    "gemma3n_text": {"num_hidden_layers": 5, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8},
    "gemma4_text": {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": _MAMBA2 | {"layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "minicpm3": {"dim_model_base": 16, "scale_emb": 2},
    "ministral": {"head_dim": 8},
    # transformers keeps to the window only where it has a cache, so its own passes differ beyond it.
    "moshi": {"sliding_window": 256},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "qwen4_exp_text": {
        "num_hidden_layers": 4,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "reformer": {
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [16, 16],
        "attn_layers": ["local", "lsh"],
        "num_buckets": 4,
    },
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24},
    "roc_bert": {
        "pronunciation_vocab_size": 20,
        "shape_vocab_size": 20,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "xlm": {"causal": True, "pad_index": 0, "unk_index": 1, "mask_index": 4, "mask_token_id": 4},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "hybrid"],
    },
    "zamba2": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}
"""What single models need besides."""

LEFT_OUT: dict[str, str] = {
    "blt": "transformers' own generate fails on it",
    "gemma3n": "its vision tower needs the package timm",
    "gemma4_assistant": "drafts tokens for another model, whose hidden states it takes",
    "gemma4_unified_assistant": "drafts tokens for another model, whose hidden states it takes",
    "musicgen": "writes audio codes of several codebooks, no text",
    "musicgen_melody": "writes audio codes of several codebooks, no text",
}
"""Which model types are no decoders of text by themselves, and why."""

BLOCKS: dict[str, int] = {
    "longcat_flash": 2,  # Its num_hidden_layers counts the two halves of each.
}
"""How many blocks there are, where the configuration's number of layers is another."""

TOKENIZERS: dict[str, str] = {
    "bert": "WordPiece",
    "camembert": "byte-level BPE, BOS",
    "electra": "WordPiece",
    "llama": "byte-level BPE, BOS",
    "mistral": "byte-fallback BPE",
    "gpt2": "byte-level BPE, no special tokens",
    "gpt_neox": "byte-level BPE, no special tokens",
    "gemma2": "byte-fallback BPE",
    "gemma4": "byte-level BPE, BOS",
    "cwm": "byte-level BPE, BOS",
    "emu3": "byte-level BPE, BOS",
    "mllama": "byte-level BPE, BOS",
    "modernbert-decoder": "byte-level BPE, BOS",
    "roberta": "byte-level BPE, BOS",
    "roberta-prelayernorm": "byte-level BPE, BOS",
    "xlm": "WordPiece",
    "xlm-roberta": "byte-level BPE, BOS",
    "xlm-roberta-xl": "byte-level BPE, BOS",
}
"""Kinds of tokenizers of single models; the others get one by their name."""

_TIME_STEP = (
    "transformers bounds the time step from below in whole passes, but not in steps with a cache, "
    "so a token's activations differ a little between a generated text and a capture of it"
)
STEPWISE: dict[str, str] = {"nemotron_h": _TIME_STEP, "zamba2": _TIME_STEP}
"""Whose generation is compared with transformers' own steps, which give other numbers than whole passes."""

_STREAMS = (
    "its blocks put out several residual streams of equal rank, so `layers` has none; use attention or MLP"
)
_PADDING = (
    "it gives other numbers for a text that stands beside a longer one, so none of its layers is listed"
)
KNOWN: dict[str, str] = {
    "cpmant": _PADDING,
    "deepseek_v4": _STREAMS,
    "hrm_text": "its blocks run several times for a text, so `layers` has none; use the whole body",
    "hy_v4": _STREAMS,
    "prophetnet": _PADDING,
    "xlnet": "in its blocks positions come before texts, so `layers` has none; its body can be captured and "
    "measured, but not steered, since it gives a vector for the next token alone while it generates",
}
"""Why some model types do not pass every step, and what a user has to know of it."""
