"""How many tokens a language model takes."""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)

from mi_crow.language_model.language_model import LanguageModel

_CONFIG_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "max_target_positions",
)
"""What configs call it; MPT's is max_seq_len, Whisper's decoder's max_target_positions."""
_TABLE = re.compile(r"pos|^wpe$")
_RELATIVE = re.compile(r"rel|bias|bucket")
_OTHER_SENSES = re.compile(r"vision|visual|image|audio|speech")


def position_limit(lm: LanguageModel) -> int | None:
    """Return how many tokens the model takes at once, or None where nothing bounds them.

    A table of absolute positions bounds them by its rows; else the config says for how many the model was
    made. Recurrent models and ALiBi without a length in the config have no limit.
    """
    tables = [int(table.weight.shape[0]) - _first_row(table) for table in _tables(lm.model)]
    if tables:
        return min(tables)
    config: Any = lm.model.config.get_text_config(decoder=True)
    said = (getattr(config, name, None) for name in _CONFIG_NAMES)
    # XLNet's config says -1: it has none.
    return next((limit for limit in said if isinstance(limit, int) and limit > 0), None)


def _tables(model: nn.Module) -> Iterator[Any]:
    """Give the embeddings of absolute positions, learned or sinusoidal, of the text model alone."""
    for path, module in model.named_modules():
        name = path.rsplit(".", 1)[-1]
        if (
            isinstance(module, nn.Embedding)
            and _TABLE.search(name)
            and not _RELATIVE.search(name)
            and not _OTHER_SENSES.search(path)
        ):
            yield module


def _first_row(table: Any) -> int:
    """Return the row of the first token: OPT and its kind keep 2 before it, RoBERTa's begin after padding."""
    offset = getattr(table, "offset", None)
    if isinstance(offset, int):
        return offset
    return 0 if table.padding_idx is None else int(table.padding_idx) + 1
