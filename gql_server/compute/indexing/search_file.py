"""The file that finds neurons by words of their top texts and promoted tokens, beside the index."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from gql_server.artifacts.files import atomic_file
from gql_server.artifacts.search_words import SEARCH_FILE, SearchWriter, words
from gql_server.compute.indexing.top_texts_file import Shown
from gql_server.compute.worker.context import TaskContext
from gql_server.compute.worker.stages import stage
from gql_server.protocol.tasks import IndexNeurons
from gql_server.tokens.spans import text_of
from gql_server.tokens.token_texts_file import token_texts

_FULL = "disk is full"
"""What SQLite says of it, which to the rest of a job is an error of the file system."""


def write_search_file(
    task: IndexNeurons,
    directory: Path,
    tensors: dict[str, Tensor],
    shown: list[Shown | None],
    context: TaskContext,
) -> None:
    """Write the file into an index's directory; without promoted tokens where the index has none."""
    n_neurons, tell = len(tensors["firing_count"]), stage(context, "writing words to search for")
    with atomic_file(directory / SEARCH_FILE) as temporary:
        writer = SearchWriter(temporary)
        try:
            for done in writer.add("top_texts", _top_texts(shown, n_neurons)):
                tell(done, 2 * n_neurons)
            for done in writer.add("promoted_tokens", _promoted(task, tensors)):
                tell(n_neurons + done, 2 * n_neurons)
        except sqlite3.OperationalError as error:
            if _FULL not in str(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary)) from error
        finally:
            writer.close()


def _top_texts(shown: list[Shown | None], n_neurons: int) -> Iterator[tuple[int, set[str]]]:
    k = len(shown) // n_neurons
    for neuron in range(n_neurons):
        texts = [text[0] for text in shown[neuron * k : (neuron + 1) * k] if text is not None]
        yield neuron, set(words("\n".join(texts)))


def _promoted(task: IndexNeurons, tensors: dict[str, Tensor]) -> Iterator[tuple[int, set[str]]]:
    if "promoted_tokens" not in tensors:
        return
    tokens = tensors["promoted_tokens"]
    used = [token for token in tokens.unique().tolist() if token >= 0]
    texts = zip(used, _texts_of(Path(task.tokenizer_dir), used), strict=True)
    words_of = {token: words(text) for token, text in texts if text is not None}
    nothing: list[str] = []
    for neuron, of_neuron in enumerate(tokens.tolist()):
        yield neuron, set(chain.from_iterable(words_of.get(token, nothing) for token in of_neuron))


def _texts_of(directory: Path, token_ids: list[int]) -> list[str | None]:
    path = directory / "tokenizer.json"
    if not path.exists():
        return token_texts(directory, token_ids)
    tokenizer = Tokenizer.from_buffer(path.read_bytes())
    return [text_of(tokenizer, token_id) for token_id in token_ids]
