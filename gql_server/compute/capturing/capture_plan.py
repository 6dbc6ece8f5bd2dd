"""Which texts go into which batch of a capture: always the same, so that a capture can be resumed."""

import hashlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.compute.context import TaskContext, TaskError
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.text_encoder import Ids, check_embedded, embedding_count
from gql_server.compute.messages.tasks import CaptureActivations
from gql_server.datasets import TextDataset
from gql_server.manifest import PlannedBatch

from mi_crow.language_model.language_model import LanguageModel

_TEXTS_AT_ONCE = 512


@dataclass(frozen=True)
class SelectedTexts:
    """Texts that were looked at, and which of them have a token that is not special."""

    rows: NDArray[np.int64]
    """Of those that have one."""
    lengths: NDArray[np.int32]
    """Their numbers of tokens, those that are cut off not among them."""
    dropped_count: int
    sha256: str
    """Over all that were looked at."""

    @property
    def kept(self) -> list[tuple[int, int]]:
        """Return row and number of tokens of each."""
        return list(zip(self.rows.tolist(), self.lengths.tolist(), strict=True))


@dataclass(frozen=True)
class CapturePlan:
    """All batches, longest texts first; ``sha256`` is over the texts looked at."""

    batches: list[PlannedBatch]
    dropped_count: int
    sha256: str


def plan_capture(
    task: CaptureActivations, lm: LanguageModel, dataset: TextDataset, context: TaskContext, ids: TokenIds
) -> CapturePlan:
    """Tokenise the selected texts into ``ids`` and put them into batches of like length.

    A text with no token but special ones is dropped. Raises TaskError INVALID where no text is left.
    """
    stop = len(dataset) if task.sample_limit is None else task.sample_offset + task.sample_limit
    texts = select_texts(lm, dataset, task.sample_offset, stop, ids.add, context)
    if not len(texts.rows):
        reason = "No text is left to capture: none of those selected has a token that is not special."
        raise TaskError(reason, "INVALID", ("dataset",))
    return CapturePlan(_batches(texts, task.batch_size), texts.dropped_count, texts.sha256)


def select_texts(
    lm: LanguageModel,
    dataset: TextDataset,
    start: int,
    stop: int,
    tokenise: Callable[[int, list[str]], list[Ids]],
    context: TaskContext,
) -> SelectedTexts:
    """Tokenise the texts of the rows from ``start`` to before ``stop`` once, to see how long they are.

    ``tokenise`` is given some texts and the row of the first. TaskError INVALID where a text has a token that
    the model has no embedding for.
    """
    limit = embedding_count(lm)
    digest, row, special = hashlib.sha256(), start, special_token_ids(lm)
    rows, lengths = array("q"), array("i")
    texts = dataset.slice(start, stop)
    while chunk := list(islice(texts, _TEXTS_AT_ONCE)):
        context.check()
        for text, ids in zip(chunk, tokenise(row, chunk), strict=True):
            encoded = text.encode()
            check_embedded(lm, ids, f"Text {row} of the dataset, counted from 0,", ("dataset",), limit)
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
            if not special.issuperset(ids.tolist()):
                rows.append(row)
                lengths.append(len(ids))
            row += 1
    dropped_count = row - start - len(rows)
    return SelectedTexts(np.array(rows), np.array(lengths), dropped_count, digest.hexdigest())


def _batches(texts: SelectedTexts, batch_size: int) -> list[PlannedBatch]:
    """Batch texts by length, longest first: what does not fit into memory shows at once."""
    order = np.argsort(-texts.lengths, kind="stable")
    return [
        PlannedBatch(texts.rows[places].tolist(), texts.lengths[places].tolist())
        for places in (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    ]
