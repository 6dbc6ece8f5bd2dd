"""Texts as token ids: of a capture, an evaluation, a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.worker.context import TaskError
from gql_server.tokens.edges import TextEdges, edges_of

from mi_crow.language_model.language_model import LanguageModel

PADDING_SIDE = "right"
Ids = NDArray[np.int32]
Offsets = list[tuple[int, int]]
_ENCODER = "text_encoder"
"""The attribute of a loaded model that holds its encoder."""
_NOBODYS_ID = -1


@dataclass(frozen=True)
class CutText:
    """A text's ids, cut at a length."""

    pieces: list[Ids]
    """The text's beginning, or all of it in consecutive pieces, with what stands around a text in each."""
    token_count: int
    """The text's own, what stands around it aside."""
    left_out_count: int
    """Those of them that are in no piece."""


@dataclass(frozen=True)
class PromptIds:
    """A prompt's token ids."""

    before: list[int]
    """Written before the text."""
    of_text: list[int]
    offsets: Offsets | None
    """Where in the text each of its own begins and ends, in characters; None where nobody tells."""


@dataclass(frozen=True)
class TextEncoder:
    """A language model's tokenizer, with what stands before and behind each text.

    The tokenizer itself writes neither here: so that an option can change them, and a prompt can be told from
    what is put behind a text.
    """

    tokenizer: Any
    edges: TextEdges
    add_bos: bool | None = None
    """The model's option; None is as the tokenizer does."""

    def encode(self, texts: Sequence[str], max_length: int) -> list[Ids]:
        """Return texts' ids, with what stands around them, at most ``max_length`` each."""
        return [cut.pieces[0] for cut in self.cut(texts, max_length)]

    def cut(self, texts: Sequence[str], max_length: int, split: bool = False) -> list[CutText]:
        """Return texts' ids in pieces of at most ``max_length``: their beginnings, or all if ``split``."""
        # Not cut by the tokenizer, which may do that at the left, and does not tell of it.
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            # Some tokenizers give them unasked, and GPT-2 adds an embedding for them.
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return [self._cut(ids, max_length, split) for ids in encoded]

    def _cut(self, ids: Sequence[int], max_length: int, split: bool) -> CutText:
        if not split:
            whole = np.array(self.edges.enclose(ids, max_length), np.int32)
            room = max(0, max_length - len(self.edges.before(ids)) - len(self.edges.end))
            return CutText([whole], len(ids), max(0, len(ids) - room))
        spans = self.edges.spans(ids, max_length)
        pieces = [np.array(self.edges.enclose(ids[start:stop]), np.int32) for start, stop in spans]
        return CutText(pieces, len(ids), 0)

    def encode_prompt(self, text: str, chat: bool) -> "PromptIds":
        """Return a prompt's ids to go on from.

        Nothing stands behind it: a model goes on from an EOS with another document. A chat template writes
        its own beginning, and gets another one only where the model's option asks for it.
        """
        offsets: Offsets | None = None
        if self.tokenizer.is_fast:
            found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            ids, offsets = list(found["input_ids"]), list(found["offset_mapping"])
        else:
            ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        before = [] if chat and not self.add_bos else list(self.edges.before(ids))
        return PromptIds(before, ids, offsets)

    @property
    def around_count(self) -> int:
        """Return how many tokens stand around a text that begins with none of them."""
        return len(self.edges.begin) + len(self.edges.end)


def make_encoder(tokenizer: Any) -> TextEncoder:
    """Return the encoder of a tokenizer of transformers, as it is."""
    return TextEncoder(tokenizer, own_edges(tokenizer))


def own_edges(tokenizer: Any) -> TextEdges:
    """Return what a tokenizer of transformers writes around a text by itself."""
    if tokenizer.is_fast:
        return edges_of(tokenizer.backend_tokenizer)
    around = list(tokenizer.build_inputs_with_special_tokens([_NOBODYS_ID]))
    place = around.index(_NOBODYS_ID)
    return TextEdges(tuple(around[:place]), tuple(around[place + 1 :]))


def encoder_of(lm: LanguageModel) -> TextEncoder:
    """Return a model's encoder: the one that its load has set, or that of its tokenizer as it is."""
    found: TextEncoder | None = getattr(lm, _ENCODER, None)
    return found or make_encoder(lm.tokenizer)


def set_encoder(lm: LanguageModel, encoder: TextEncoder) -> None:
    """Keep a model's encoder beside it."""
    setattr(lm, _ENCODER, encoder)


def embedding_count(lm: LanguageModel) -> int:
    """Return how many token ids the model has an embedding for: those below."""
    embedding: Any = lm.model.get_input_embeddings()
    return int(embedding.weight.shape[0])


def padding_id(lm: LanguageModel) -> int:
    """Return an id to pad with that the model has an embedding for; the mask says where it is none of a text.

    A tokenizer's own may lie beyond them, where it was added without resizing the model.
    """
    tokenizer, limit = lm.tokenizer, embedding_count(lm)
    wanted = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
    return next((token_id for token_id in wanted if token_id is not None and token_id < limit), 0)


def check_embedded(
    lm: LanguageModel, ids: Sequence[int] | Ids, what: str, path: Sequence[str], limit: int | None = None
) -> None:
    """Refuse ids that the model has no embedding for; ``what`` names the text, ``limit`` is their number.

    Raises TaskError INVALID, at ``path``.
    """
    limit = embedding_count(lm) if limit is None else limit
    if not len(ids) or (highest := int(max(ids) if isinstance(ids, list) else np.max(ids))) < limit:
        return
    name = lm.tokenizer.convert_ids_to_tokens(highest)
    reason = (
        f"{what} has the token {name!r} with the ID {highest}, for which the language model has no "
        f"embedding: it has {limit}, of the IDs 0 to {limit - 1}. Leave that token out of the text, or "
        "enlarge the model's embedding to its tokenizer and save it anew."
    )
    raise TaskError(reason, "INVALID", tuple(path))
