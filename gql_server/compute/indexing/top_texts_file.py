"""The top-texts JSON file: each neuron with its statistics and the texts on which it fires most strongly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from gql_server.compute.context import TaskContext
from gql_server.compute.messages.tasks import IndexNeurons
from gql_server.datasets import TextDataset
from gql_server.files import whole_file
from gql_server.top_texts import TextTokenizer

_TEXTS_AT_ONCE = 256
Shown = tuple[str, str]
"""A stretch of a text, and the token at its peak."""


def write_top_texts_file(
    task: IndexNeurons,
    tensors: dict[str, Tensor],
    dataset: TextDataset,
    tokenizer: TextTokenizer,
    max_length: int,
    context: TaskContext,
) -> None:
    """Write task.top_texts_path whole, out of an index's tensors."""
    shown = _shown(tensors, dataset, tokenizer, max_length, context)
    head = {
        "sae_id": task.sae.id,
        "index_id": task.index_id,
        "run_id": task.run_id,
        "layer": task.sae.layer,
    }
    with whole_file(Path(task.top_texts_path)) as temporary, temporary.open("wb") as file:
        file.write(msgspec.json.encode(head)[:-1] + b',"neurons":[')
        for number, neuron in enumerate(_neurons(tensors, shown)):
            file.write((b",\n" if number else b"\n") + msgspec.json.encode(neuron))
        file.write(b"\n]}\n")


def _shown(
    tensors: dict[str, Tensor],
    dataset: TextDataset,
    tokenizer: TextTokenizer,
    max_length: int,
    context: TaskContext,
) -> list[Shown | None]:
    """Return what is shown of each entry of ``top_rows``, neuron by neuron; None where there is no text.

    Texts are tokenised once, in the dataset's order.
    """
    rows = tensors["top_rows"].flatten()
    names = ("window_start", "window_length", "top_token_index")
    starts, lengths, peaks = (tensors[name].flatten().tolist() for name in names)
    shown: list[Shown | None] = [None] * len(rows)
    sorted_rows, order = rows.sort(stable=True)
    used, counts = sorted_rows[sorted_rows >= 0].unique_consecutive(return_counts=True)
    entries = iter(order[sorted_rows >= 0].split(counts.tolist()))
    for some in used.split(_TEXTS_AT_ONCE):
        context.check()
        for text in tokenizer.tokenize([dataset[row] for row in some.tolist()], max_length):
            for entry in next(entries).tolist():
                shown[entry] = (text.stretch(starts[entry], lengths[entry]), text.token(peaks[entry]))
    return shown


def _neurons(tensors: dict[str, Tensor], shown: list[Shown | None]) -> Iterator[dict[str, Any]]:
    scores, tokens = tensors["top_scores"].tolist(), tensors["top_token_index"].tolist()
    starts, text_counts = tensors["window_start"].tolist(), tensors["top_text_counts"].tolist()
    frequency, maxima = tensors["frequency"].tolist(), tensors["max_activation"].tolist()
    means, counts = tensors["mean_activation"].tolist(), tensors["firing_count"].tolist()
    k = tensors["top_rows"].shape[1]
    for neuron in range(len(counts)):
        columns = (scores[neuron], tokens[neuron], starts[neuron], text_counts[neuron])
        texts = zip(shown[neuron * k : (neuron + 1) * k], *columns, strict=True)
        yield {
            "neuron": neuron,
            "frequency": frequency[neuron],
            "max_activation": maxima[neuron],
            "mean_activation": means[neuron],
            "dead": counts[neuron] == 0,
            "texts": [
                {
                    "text": text[0],
                    "score": score,
                    "token": text[1],
                    "token_index": token,
                    "peak_index": token - start,
                    "text_count": count,
                }
                for text, score, token, start, count in texts
                if text is not None
            ],
        }
