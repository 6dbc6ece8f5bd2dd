"""Which texts go into which batch of a capture: always the same, so that a capture can be resumed."""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.manifest import PlannedBatch
from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.text_encoder import CutText, check_embedded, embedding_count
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.tasks import CaptureActivations

from mi_crow.language_model.language_model import LanguageModel

_TEXTS_AT_ONCE = 512
_CHARACTERS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class SelectedTexts:
    """Texts that were looked at, and those of their pieces that have a token that is not special.

    A text that is not split is one piece.
    """

    rows: NDArray[np.int64]
    """The dataset row of each piece."""
    pieces: NDArray[np.int32]
    """Which piece of its text each is, from 0."""
    lengths: NDArray[np.int32]
    """The number of tokens of each piece, without those that are cut off."""
    dropped_count: int
    """Texts without such a piece."""
    cut: "CutTexts"
    sha256: str
    """Hash over all texts that were looked at."""

    @property
    def kept(self) -> list[tuple[int, int]]:
        """Return row and number of tokens of each."""
        return list(zip(self.rows.tolist(), self.lengths.tolist(), strict=True))


@dataclass(frozen=True)
class CutTexts:
    """How many texts were cut, and how many tokens that has left out, of how many."""

    text_count: int = 0
    left_out_count: int = 0
    token_count: int = 0

    def plus(self, text: CutText) -> "CutTexts":
        """Count another text."""
        return CutTexts(
            self.text_count + (text.left_out_count > 0),
            self.left_out_count + text.left_out_count,
            self.token_count + text.token_count,
        )

    def told(self, max_length: int) -> str | None:
        """Say how much was left out; None where nothing was."""
        if not self.text_count:
            return None
        texts = "1 text is" if self.text_count == 1 else f"{self.text_count:,} texts are"
        share = 100 * self.left_out_count / self.token_count
        return (
            f"{texts} longer than {max_length:,} tokens and cut there, which leaves out {share:.3g} % of all "
            "tokens."
        )


@dataclass(frozen=True)
class CapturePlan:
    """All batches, longest texts first; ``sha256`` is over the texts looked at."""

    batches: list[PlannedBatch]
    text_count: int
    """Texts with a piece in them."""
    dropped_count: int
    cut: CutTexts
    sha256: str


def plan_capture(
    task: CaptureActivations, lm: LanguageModel, dataset: TextDataset, context: TaskContext, ids: TokenIds
) -> CapturePlan:
    """Tokenize the selected texts into ``ids`` and put them into batches of like length.

    A text with no token but special ones is dropped. Raises TaskError INVALID where no text is left, or there
    are too many pieces.
    """
    stop = len(dataset) if task.sample_limit is None else task.sample_offset + task.sample_limit
    texts = select_texts(lm, dataset, task.sample_offset, stop, ids.add, context, task.max_texts)
    if not len(texts.rows):
        reason = "No text is left to capture: none of those selected has a token that is not special."
        raise TaskError(reason, "INVALID", ("dataset",))
    batches = _batches(texts, task.batch_size, task.long_texts == "SPLIT")
    n_texts = len(np.unique(texts.rows))
    return CapturePlan(batches, n_texts, texts.dropped_count, texts.cut, texts.sha256)


def select_texts(
    lm: LanguageModel,
    dataset: TextDataset,
    start: int,
    stop: int,
    tokenize: Callable[[int, list[str]], list[CutText]],
    context: TaskContext,
    max_pieces: int | None = None,
) -> SelectedTexts:
    """Tokenize the texts of the rows from ``start`` to before ``stop`` once, to see how long they are.

    ``tokenize`` is given some texts and the row of the first. TaskError INVALID where a text has a token that
    the model has no embedding for, or there are more than ``max_pieces``.
    """
    limit = embedding_count(lm)
    digest, row, special = hashlib.sha256(), start, special_token_ids(lm)
    rows, pieces, lengths = array("q"), array("i"), array("i")
    dropped_count, all_cut = 0, CutTexts()
    for chunk in _chunks(dataset.slice(start, stop)):
        context.check()
        for text, cut in zip(chunk, tokenize(row, chunk), strict=True):
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
            all_cut, n_before = all_cut.plus(cut), len(rows)
            for piece, ids in enumerate(cut.pieces):
                check_embedded(lm, ids, f"Text {row} of the dataset, counted from 0,", ("dataset",), limit)
                if not special.issuperset(ids.tolist()):
                    rows.append(row)
                    pieces.append(piece)
                    lengths.append(len(ids))
            dropped_count += len(rows) == n_before
            row += 1
        if max_pieces is not None and len(rows) > max_pieces:
            reason = f"The texts have more than {max_pieces:,} pieces, which is the limit; set a sampleLimit."
            raise TaskError(reason, "INVALID", ("dataset",))
    return SelectedTexts(
        np.array(rows), np.array(pieces), np.array(lengths), dropped_count, all_cut, digest.hexdigest()
    )


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    """Put texts together for the tokenizer: not too many, nor too long in all, unless one text is."""
    chunk: list[str] = []
    n_characters = 0
    for text in texts:
        if chunk and (len(chunk) == _TEXTS_AT_ONCE or n_characters + len(text) > _CHARACTERS_AT_ONCE):
            yield chunk
            chunk, n_characters = [], 0
        chunk.append(text)
        n_characters += len(text)
    if chunk:
        yield chunk


def _batches(texts: SelectedTexts, batch_size: int, split: bool) -> list[PlannedBatch]:
    """Batch texts by length, longest first: what does not fit into memory shows at once."""
    order = np.argsort(-texts.lengths, kind="stable")
    return [
        PlannedBatch(
            texts.rows[places].tolist(),
            texts.lengths[places].tolist(),
            texts.pieces[places].tolist() if split else [],
        )
        for places in (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    ]
