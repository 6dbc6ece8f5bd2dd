"""Generations as a worker gets them, greedy and plain but for what a test asks for."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import Generate


def generation_task(
    source: LanguageModelSource, prompts: Sequence[str], max_new_tokens: int, **changes: Any
) -> Generate:
    """Return a greedy generation without an SAE, with ``changes`` to its fields."""
    task = Generate(
        language_model=source,
        sae=None,
        prompts=list(prompts),
        chats=None,
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        top_p=None,
        top_k=None,
        repetition_penalty=None,
        stop=[],
        seed=7,
        edits=None,
        mode="ERROR_PRESERVING",
        compare_to_baseline=False,
        top_log_probabilities=0,
        top_neurons=0,
        top_texts_path=None,
    )
    return msgspec.structs.replace(task, **changes)
