"""Loads a model's weights, and refuses a checkpoint that does not have all of them."""

import traceback
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.loading_report import LoadStateDictInfo

from gql_server.compute.language_models.load_failures import NotLoadable
from gql_server.model_files.kinds import architectures_of, masked_kind, other_kind
from gql_server.model_files.weights import listed

_PROBE_LENGTH = 3
_NOISE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""How much logits may differ, in their standard deviations, because of rounding alone."""


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what people should know of how it was loaded."""

    model: Any
    notes: list[str]


def load_weights(place: str, dtype: torch.dtype, **options: Any) -> LoadedModel:
    """Load a causal language model in evaluation mode, with all of its weights from the checkpoint.

    transformers would fill what is missing with random numbers, and say so in the log alone. Raises
    NotLoadable where weights are missing or of another shape, or the model is of another kind.
    """
    # Asked for explicitly: left open, transformers asks on the terminal.
    options["trust_remote_code"] = False
    config = AutoConfig.from_pretrained(place, **options)
    _check_kind(config)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except RuntimeError as error:
        failure = _of_conversion(error)
        if failure is None:
            raise
        raise failure from error
    model, info = loaded
    _check_complete(config, model, info)
    model.eval().requires_grad_(False)
    unused = sorted(info["unexpected_keys"])
    notes = [
        f"Not used: {_weights(unused)} of the checkpoint that the model has no place for: {listed(unused)}."
    ]
    return LoadedModel(model, (notes if unused else []) + _notes_of_reading(config, model))


def _check_kind(config: PreTrainedConfig) -> None:
    kind = other_kind(config.to_dict())
    if kind is not None:
        raise NotLoadable(kind)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        named = ", ".join(architectures_of(config.to_dict())) or "no class named"
        raise NotLoadable(
            f"It is a {config.model_type} model ({named}), which transformers cannot load as a causal one."
        )


def _check_complete(config: PreTrainedConfig, model: PreTrainedModel, info: dict[str, Any]) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        raise NotLoadable(
            f"The checkpoint lacks {_weights(missing)} of {type(model).__name__}: {listed(missing)}."
            f"{_base_model(config, model)} Save the whole language model again, or take a complete copy."
        )
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        shapes = [f"{key} is {list(found)} instead of {list(right)}" for key, found, right in mismatched]
        raise NotLoadable(
            f"The checkpoint has {_weights(shapes)} of another shape than its config says: {listed(shapes)}."
        )


def _base_model(config: PreTrainedConfig, model: PreTrainedModel) -> str:
    """Say what a checkpoint without an output layer is, where its config names its class."""
    others = [name for name in architectures_of(config.to_dict()) if name != type(model).__name__]
    if not others:
        return ""
    kind = "a base model without an output layer" if others[0].endswith("Model") else "another kind of model"
    return f" Its config.json names {', '.join(others)}: {kind}."


def _of_conversion(error: RuntimeError) -> NotLoadable | None:
    """Return the failure of weights that are put together from several of the checkpoint, such as experts.

    transformers names them in a report in the log alone, so they are taken from where it raised.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        info = frame.f_locals.get("loading_info")
        if isinstance(info, LoadStateDictInfo) and info.conversion_errors:
            names = sorted(info.conversion_errors)
            return NotLoadable(
                f"{_weights(names)} cannot be put together from the checkpoint, because parts of them are "
                f"missing or of another shape: {listed(names)}. Take a complete copy."
            )
    return None


def _notes_of_reading(config: PreTrainedConfig, model: PreTrainedModel) -> list[str]:
    """Return a note of a model that reads ahead though it was made to write; refuses a masked one."""
    if not _reads_ahead(model):
        return []
    # XLM's and FlauBERT's name for it is causal.
    if getattr(model.config, "is_decoder", None) is False or getattr(model.config, "causal", None) is False:
        named = ", ".join(architectures_of(config.to_dict())) or type(model).__name__
        raise NotLoadable(masked_kind(f" ({named})"))
    return [
        f"{type(model).__name__} reads the tokens of a prompt in both directions: probabilities of a text's "
        "own tokens, and with them losses, are those of a model that has seen them."
    ]


def _reads_ahead(model: PreTrainedModel) -> bool:
    """Say whether the logits at a token depend on the tokens after it."""
    embedding: Any = model.get_input_embeddings()
    rows = int(embedding.weight.shape[0])
    taken = {getattr(model.config.get_text_config(), "pad_token_id", None)}
    ids = [token_id for token_id in range(rows // 2, rows) if token_id not in taken][: _PROBE_LENGTH + 1]
    if len(ids) <= _PROBE_LENGTH:
        return False
    texts = torch.tensor([ids[:_PROBE_LENGTH], [*ids[: _PROBE_LENGTH - 1], ids[-1]]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=texts, use_cache=False).logits[:, :-1].float()
    difference = (logits[0] - logits[1]).abs().max()
    return bool(difference > _NOISE.get(model.dtype, 1e-1) * logits.std())


def _weights(names: list[str]) -> str:
    return "1 weight" if len(names) == 1 else f"{len(names):,} weights"
