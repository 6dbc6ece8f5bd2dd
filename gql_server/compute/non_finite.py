"""What is said and done where a language model's activations are NaN or infinite at some tokens."""

MAX_SHARE = 0.05
"""Largest share of tokens that may be left out: beyond it, statistics would not describe the texts.

One value that overflows makes a whole rest of a text NaN in the layers after it, so a single bad text must
not be too much.
"""


def cause_in_model(dtype: str) -> str:
    """Say why a model that computes in ``dtype`` gives such values, and what to do."""
    if dtype == "FLOAT16":
        return (
            "The language model computes in FLOAT16, where numbers end at 65,504: add it again with dtype "
            "BFLOAT16 or FLOAT32 (addLanguageModel), and use that."
        )
    return (
        f"The language model gives them itself, though it computes in {dtype}: its weights or these texts "
        "are at fault; take an earlier layer, other texts or another model."
    )
