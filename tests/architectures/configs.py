"""Tiny configurations of every decoder architecture of transformers, from the classes' defaults."""

from typing import Any

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.architectures.overrides import LEFT_OUT, OVERRIDES, SIZES

_MOST_LAYERS = 8


def architectures() -> dict[str, str]:
    """Return the model types that can be tested, and their classes; a class that has several types, once."""
    of_class: dict[str, str] = {}
    for model_type, class_name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        own = model_class(model_type).config_class is CONFIG_MAPPING[model_type]
        if model_type not in LEFT_OUT and (own or class_name not in of_class):
            of_class[class_name] = model_type
    return {model_type: class_name for class_name, model_type in of_class.items()}


def model_class(model_type: str) -> Any:
    """Return the class that transformers loads a model type with."""
    return MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]]


def tiny_config(model_type: str, vocabulary_size: int, special: dict[str, int | None]) -> PreTrainedConfig:
    """Make a configuration of a few small layers, of every kind of layer that the architecture has."""
    return _shrunk(CONFIG_MAPPING[model_type], vocabulary_size, special)


def _shrunk(config_class: Any, vocabulary_size: int, special: dict[str, int | None]) -> PreTrainedConfig:
    more = dict(OVERRIDES.get(config_class.model_type, {}))
    default = config_class(**more.pop("default", {}))
    given = _given(default, vocabulary_size, special) | more
    kinds = _kinds(default)
    config: PreTrainedConfig = config_class(**given)
    while (
        "layer_types" not in more
        and kinds > _kinds(config)
        and given.get("num_hidden_layers", _MOST_LAYERS) < _MOST_LAYERS
    ):
        given["num_hidden_layers"] += 1
        config = config_class(**given)
    return config


def _given(default: PreTrainedConfig, vocabulary_size: int, special: dict[str, int | None]) -> dict[str, Any]:
    values = default.to_dict()
    given: dict[str, Any] = {}
    for name, value in values.items():
        part = vars(default).get(name)
        if isinstance(part, PreTrainedConfig):
            given[name] = _shrunk(type(part), vocabulary_size, special).to_dict()
        elif name in ("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input"):
            given[name] = vocabulary_size
        elif name == "forced_eos_token_id":
            # It would end every text at its last token, whatever the model says.
            given[name] = None
        elif name in special:
            given[name] = special[name]
        elif name in SIZES and value is not None:
            given[name] = SIZES[name]
    if "kv_lora_rank" in given and "num_key_value_heads" in given:
        given["num_key_value_heads"] = given["num_attention_heads"]
    if "is_decoder" in values or "add_cross_attention" in values:
        given["is_decoder"] = True
    return given


def _kinds(config: PreTrainedConfig) -> set[str]:
    """Return the kinds of layers, where the configuration lists them."""
    found: set[str] = set()
    for name in ("layer_types", "layers_block_type", "mlp_layer_types"):
        listed = getattr(config, name, None)
        found |= set(map(str, listed)) if isinstance(listed, list) else set()
    return found
