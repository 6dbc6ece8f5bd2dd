"""How many tokens a language model takes: what bare transformers does at that length and beyond it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import transformers

from gql_server.compute.language_models.position_limits import position_limit

from mi_crow.language_model.language_model import LanguageModel

_BERT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 24,
    "is_decoder": True,
}
_BART = {
    "d_model": 8,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 8,
    "encoder_layers": 1,
    "max_position_embeddings": 24,
}
_GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 24}
_OPT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 8,
    "word_embed_proj_dim": 8,
    "max_position_embeddings": 24,
}
_WHISPER = {"d_model": 8, "decoder_layers": 1, "decoder_attention_heads": 2, "max_target_positions": 24}
_NEO = {
    "hidden_size": 8,
    "num_layers": 1,
    "num_heads": 2,
    "max_position_embeddings": 24,
    "attention_types": [[["global"], 1]],
}


def made(name: str, config: dict[str, Any]) -> LanguageModel:
    model_class = getattr(transformers, name)
    special = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    torch.manual_seed(0)
    model = model_class(model_class.config_class(vocab_size=60, **special, **config)).eval()
    return cast(LanguageModel, SimpleNamespace(model=model))


def runs(lm: LanguageModel, n_tokens: int) -> bool:
    """Say whether the bare model takes so many tokens that are no padding."""
    model: Any = lm.model
    try:
        with torch.inference_mode():
            model(input_ids=torch.arange(n_tokens)[None] % 50 + 5, use_cache=False)
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "config", "limit"),
    [
        ("GPT2LMHeadModel", _GPT2, 24),
        ("GPTNeoForCausalLM", _NEO, 24),
        ("OpenAIGPTLMHeadModel", _GPT2, 24),
        ("CTRLLMHeadModel", {**_GPT2, "dff": 8}, 24),
        ("OPTForCausalLM", _OPT, 24),
        ("BioGptForCausalLM", _BERT, 24),
        ("BertLMHeadModel", _BERT, 24),
        ("RobertaForCausalLM", _BERT, 22),
        ("XLMRobertaForCausalLM", _BERT, 22),
        ("CamembertForCausalLM", _BERT, 22),
        ("BartForCausalLM", _BART, 24),
        ("PegasusForCausalLM", _BART, 24),
        ("WhisperForCausalLM", _WHISPER, 24),
        ("MptForCausalLM", {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_seq_len": 24}, 24),
    ],
)
def test_the_limit_runs_and_one_more_token_does_not(name: str, config: dict[str, Any], limit: int) -> None:
    lm = made(name, config)
    assert position_limit(lm) == limit
    assert runs(lm, limit) and not runs(lm, limit + 1)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("BloomForCausalLM", {"hidden_size": 8, "n_layer": 1, "n_head": 2}),
        ("MambaForCausalLM", {"hidden_size": 8, "num_hidden_layers": 1, "state_size": 4}),
        ("XLNetLMHeadModel", {"d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 8}),
    ],
)
def test_a_model_that_nothing_bounds_has_no_limit(name: str, config: dict[str, Any]) -> None:
    lm = made(name, config)
    assert position_limit(lm) is None
    assert runs(lm, 100)


def test_rotary_positions_end_where_the_config_says() -> None:
    lm = made("LlamaForCausalLM", {key: value for key, value in _BERT.items() if key != "is_decoder"})
    assert position_limit(lm) == 24
    # The model would go on, into positions that it was not made for.
    assert runs(lm, 25)


def test_tables_of_an_image_s_patches_do_not_count() -> None:
    vision: dict[str, Any] = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    config = transformers.GitConfig(
        vision_config={**vision, "image_size": 8, "patch_size": 4},
        vocab_size=60,
        **{**vision, "max_position_embeddings": 24},
    )
    lm = cast(LanguageModel, SimpleNamespace(model=transformers.GitForCausalLM(config).eval()))
    assert position_limit(lm) == 24
    assert runs(lm, 24) and not runs(lm, 25)
