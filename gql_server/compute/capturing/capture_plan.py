"""Which texts go into which batch of a capture: always the same, so that a capture can be resumed."""

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gql_server.compute.context import TaskContext, TaskError
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.messages.tasks import CaptureActivations
from gql_server.datasets import TextDataset
from gql_server.manifest import PlannedBatch

from mi_crow.language_model.language_model import LanguageModel

PADDING_SIDE = "right"
_TEXTS_AT_ONCE = 512


@dataclass(frozen=True)
class SelectedTexts:
    """Texts that were looked at, and which of them have a token that is not special."""

    kept: list[tuple[int, int]]
    """Row and number of tokens, those that are cut off not among them."""
    dropped_count: int
    sha256: str
    """Over all that were looked at."""


@dataclass(frozen=True)
class CapturePlan:
    """All batches, longest texts first; ``sha256`` is over the texts looked at."""

    batches: list[PlannedBatch]
    dropped_count: int
    sha256: str


def tokenizer_options(max_length: int) -> dict[str, Any]:
    """Return how a capture calls the tokenizer, whatever others have set on it meanwhile.

    Token types are left out: some tokenizers give them unasked, and GPT-2 adds an embedding for them.
    """
    return {"max_length": max_length, "padding_side": PADDING_SIDE, "return_token_type_ids": False}


def plan_capture(
    task: CaptureActivations, lm: LanguageModel, dataset: TextDataset, context: TaskContext
) -> CapturePlan:
    """Tokenise the selected texts once and put them into batches of like length.

    A text with no token but special ones is dropped. Raises TaskError INVALID where no text is left.
    """
    stop = len(dataset) if task.sample_limit is None else task.sample_offset + task.sample_limit
    texts = select_texts(lm, dataset, task.sample_offset, stop, task.max_length, context)
    if not texts.kept:
        reason = "No text is left to capture: none of those selected has a token that is not special."
        raise TaskError(reason, "INVALID", ("dataset",))
    return CapturePlan(_batches(texts.kept, task.batch_size), texts.dropped_count, texts.sha256)


def select_texts(
    lm: LanguageModel, dataset: TextDataset, start: int, stop: int, max_length: int, context: TaskContext
) -> SelectedTexts:
    """Tokenise the texts of the rows from ``start`` to before ``stop`` once, to see how long they are."""
    digest, row = hashlib.sha256(), start
    kept: list[tuple[int, int]] = []
    texts = dataset.slice(start, stop)
    while chunk := list(islice(texts, _TEXTS_AT_ONCE)):
        context.check()
        for text, length in zip(chunk, _lengths(lm, chunk, max_length), strict=True):
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
            if length:
                kept.append((row, length))
            row += 1
    return SelectedTexts(kept, row - start - len(kept), digest.hexdigest())


def _lengths(lm: LanguageModel, texts: list[str], max_length: int) -> list[int]:
    """Return each text's number of tokens, 0 where all of them are special."""
    special = special_token_ids(lm)
    ids: list[list[int]] = lm.tokenizer(texts, truncation=True, **tokenizer_options(max_length))["input_ids"]
    return [0 if special.issuperset(one) else len(one) for one in ids]


def _batches(kept: list[tuple[int, int]], batch_size: int) -> list[PlannedBatch]:
    """Batch (row, length) pairs by length, longest first: what does not fit into memory shows at once."""
    kept = sorted(kept, key=lambda pair: -pair[1])
    chunks = [kept[start : start + batch_size] for start in range(0, len(kept), batch_size)]
    return [PlannedBatch([row for row, _ in chunk], [length for _, length in chunk]) for chunk in chunks]
