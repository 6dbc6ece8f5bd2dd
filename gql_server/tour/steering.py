"""Choosing a neuron that one can name by its texts, and edits that visibly change what the model writes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gql_server.tour import documents
from gql_server.tour.client import Api

PROMPT = "The most important thing to know is that"
NEW_TOKENS = 40
STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Biases to try, in shares of the neuron's highest activation, weakest first."""
MIN_TOKEN_CHARACTERS = 4
MIN_AGREEING_TEXTS = 0.8
MIN_DISTINCT_TOKENS = 0.5
"""A text with fewer different tokens goes round in circles."""


@dataclass(frozen=True)
class Steered:
    """A text, and what an edit made of it."""

    baseline: str
    steered: str
    strength: float
    bias: float


def peak_word(neuron: Mapping[str, Any]) -> str | None:
    """Return the word that most of a neuron's top texts peak on; None where they differ or it is no word."""
    words: Counter[str] = Counter(text["token"].strip().lower() for text in neuron["topTexts"] or ())
    if not words:
        return None
    word, count = words.most_common(1)[0]
    if count < MIN_AGREEING_TEXTS * words.total() or len(word) < MIN_TOKEN_CHARACTERS or not word.isalpha():
        return None
    return word


def nameable(neurons: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return up to ``count`` neurons, those with a word of their own first, otherwise in the given order."""
    return sorted(neurons, key=lambda neuron: peak_word(neuron) is None)[:count]


async def steer(api: Api, sae_id: str, neuron: Mapping[str, Any], word: str) -> Steered:
    """Turn a neuron up, more and more, until its word comes into the text; return the last that still reads.

    Raises:
        TourError: The server refused to generate.
    """
    best: Steered | None = None
    for strength in STRENGTHS:
        tried, distinct = await _generate(api, sae_id, neuron, strength)
        if best is not None and distinct < MIN_DISTINCT_TOKENS:
            break
        best = tried
        if tried.steered.lower().count(word) > tried.baseline.lower().count(word):
            break
    assert best is not None
    return best


async def _generate(
    api: Api, sae_id: str, neuron: Mapping[str, Any], strength: float
) -> tuple[Steered, float]:
    bias = strength * float(neuron["maxActivation"])
    edits = [{"neuronIndex": neuron["index"], "multiplier": 1.0, "bias": bias}]
    inputs = {
        "saeId": sae_id,
        "prompts": [PROMPT],
        "maxNewTokens": NEW_TOKENS,
        "repetitionPenalty": 1.1,
        "topNeurons": 0,
        "compareToBaseline": True,
        "steering": {"source": {"edits": edits}},
    }
    outputs = (await api.ask(documents.GENERATE, input=inputs))["result"]["outputs"]
    baseline, steered = (
        next(output for output in outputs if output["variant"] == variant)
        for variant in ("BASELINE", "STEERED")
    )
    tokens = [token["text"] for token in steered["tokens"]]
    distinct = len(set(tokens)) / max(1, len(tokens))
    return Steered(baseline["text"], steered["text"], strength, bias), distinct
