"""What an index keeps of tokens that only the language model's own tokenizer makes; see kept_tokens.py."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gql_server.artifacts import kept_tokens
from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.files import atomic_write
from gql_server.artifacts.tokenized_texts import Offset, TextTokenizer, TokenizedText
from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.language_models.text_encoder import own_edges
from gql_server.compute.language_models.token_labels import (
    decoded_each,
    is_part,
    token_label,
    token_text,
)
from gql_server.compute.worker.context import TaskContext
from gql_server.compute.worker.stages import stage
from gql_server.tokens.spans import aligned
from gql_server.tokens.token_texts_file import TOKEN_TEXTS_FILE

from mi_crow.language_model.language_model import LanguageModel

_CHECK_EVERY = 64
SHOWN = ("top", "example", "drawn")
"""What an index names texts for: tensors <name>_rows, and <name>_pieces where texts are split."""


class SlowSource:
    """A tokenizer of transformers that has no tokenizer.json and tells no offsets."""

    def __init__(self, lm: LanguageModel) -> None:
        self._tokenizer = lm.tokenizer
        self.edges = own_edges(lm.tokenizer)

    def encode(self, texts: Sequence[str], limit: int | None) -> list[tuple[list[int], list[Offset]]]:
        """Tokenize texts, and find each token in its text."""
        found = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [
            (list(ids[:limit]), self._offsets(text, ids[:limit]))
            for text, ids in zip(texts, found, strict=True)
        ]

    def name(self, token_id: int) -> str:
        """Return a token's name in the vocabulary."""
        return token_label(self._tokenizer, token_id, "")

    def _offsets(self, text: str, ids: Sequence[int]) -> list[Offset]:
        offsets: list[Offset] = []
        end = 0
        for token_id, piece in zip(ids, aligned(text, decoded_each(self._tokenizer, ids)), strict=True):
            if offsets and not piece and is_part(self._tokenizer, token_id):
                # As tokenizer.json's do: each has the whole character.
                offsets.append(offsets[-1])
                continue
            offsets.append((end, end + len(piece)))
            end += len(piece)
        return offsets


def shown_tokens(
    tensors: dict[str, Tensor],
    dataset: TextDataset,
    tokenizer: TextTokenizer,
    max_length: int,
    context: TaskContext,
) -> dict[str, Tensor]:
    """Return the tokens of the texts and pieces that an index's tensors name, as KeptTokens reads them."""
    split = "top_pieces" in tensors
    rows = torch.cat([tensors[f"{of}_rows"].flatten().int() for of in SHOWN])
    pieces = torch.zeros_like(rows)
    if split:
        pieces = torch.cat([tensors[f"{of}_pieces"].flatten().int() for of in SHOWN])
    used = torch.stack([rows, pieces.to(rows.dtype)], dim=1)[rows >= 0].unique(dim=0)
    texts: list[TokenizedText] = []
    tell = stage(context, "keeping the tokens of texts")
    for number, (row, piece) in enumerate(used.tolist()):
        if number % _CHECK_EVERY == 0:
            tell(number, len(used))
        (cut,) = tokenizer.cut([dataset[row]], max_length, split)
        texts.append(cut.piece(piece))
    ids = [token_id for text in texts for token_id in text.ids]
    names = {text.ids[place]: name for text in texts for place, name in text.names.items()}
    content = np.frombuffer(json.dumps(names).encode(), np.uint8).copy()
    return {
        kept_tokens.ROWS: used[:, 0].contiguous(),
        kept_tokens.PIECES: used[:, 1].contiguous(),
        kept_tokens.ENDS: torch.tensor([len(text.ids) for text in texts], dtype=torch.int64).cumsum(0),
        kept_tokens.IDS: torch.tensor(ids, dtype=torch.int32),
        kept_tokens.OFFSETS: torch.tensor(
            [offset for text in texts for offset in text.offsets], dtype=torch.int32
        ).view(-1, 2),
        kept_tokens.IS_NAMED: torch.tensor(
            [place in text.names for text in texts for place in range(len(text.ids))], dtype=torch.uint8
        ),
        kept_tokens.NAMES: torch.from_numpy(content),
    }


def write_token_texts(lm: LanguageModel, directory: Path) -> None:
    """Write what each token stands for, for those who cannot ask the tokenizer."""
    texts = [token_text(lm.tokenizer, token_id) for token_id in range(len(lm.tokenizer))]
    atomic_write(directory / TOKEN_TEXTS_FILE, json.dumps(texts).encode())
