"""Which kinds of models are no causal language models, told from a config.json alone: without torch."""

from typing import Any

_OTHER_HEADS = {
    "ForSequenceClassification": "a sequence classifier",
    "ForTokenClassification": "a token classifier",
    "ForQuestionAnswering": "a question-answering model",
    "ForMultipleChoice": "a multiple-choice model",
    "ForNextSentencePrediction": "a next-sentence classifier",
    "ForImageClassification": "an image classifier",
    "ForMaskedImageModeling": "a vision model",
    "ForObjectDetection": "an object detector",
    "ForSemanticSegmentation": "an image segmenter",
    "ForAudioClassification": "an audio classifier",
    "ForCTC": "a speech recognizer",
    "VisionModel": "a vision model",
    "RewardModel": "a reward model",
}
"""The endings of class names in transformers that say what a model puts out."""
_MASKED_HEADS = ("ForMaskedLM", "ForPreTraining")
_CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel", "WithLMHead")
_NEEDED = "This server needs a causal (decoder-only) language model."


def other_kind(config: dict[str, Any]) -> str | None:
    """Say in sentences what a config's model is where it is no causal language model, or return None.

    A base model, which has no output layer of its own, is left to its weights: with a tied embedding it has
    all that is needed.
    """
    architectures = architectures_of(config)
    named = f" ({', '.join(architectures)})" if architectures else ""
    if config.get("is_encoder_decoder") is True:
        return f"It is an encoder-decoder model{named}, not a decoder alone. {_NEEDED}"
    if any(name.endswith(_CAUSAL_HEADS) for name in architectures):
        return None
    for name in architectures:
        if name.endswith(_MASKED_HEADS) and not config.get("is_decoder"):
            return masked_kind(named)
        kind = next((kind for ending, kind in _OTHER_HEADS.items() if name.endswith(ending)), None)
        if kind is not None:
            return f"It is {kind}{named}. {_NEEDED}"
    return None


def masked_kind(named: str) -> str:
    """Say that a model reads a text in both directions."""
    return (
        f"It is a masked language model{named}: it reads a text in both directions. {_NEEDED} Where it was "
        "trained as one, is_decoder must be true in its config.json."
    )


def architectures_of(config: dict[str, Any]) -> list[str]:
    """Return the names of the classes that a config names, whatever else stands there."""
    architectures = config.get("architectures")
    return [str(name) for name in architectures] if isinstance(architectures, list) else []
