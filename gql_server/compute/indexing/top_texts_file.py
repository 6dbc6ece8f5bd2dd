"""The top-texts JSON file: each neuron with its statistics and the texts on which it fires most strongly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.files import atomic_file
from gql_server.artifacts.top_texts import TextTokenizer
from gql_server.compute.worker.context import TaskContext
from gql_server.compute.worker.stages import stage
from gql_server.protocol.tasks import IndexNeurons

_TEXTS_AT_ONCE = 256
_WHOLE_TEXTS_AT_ONCE = 16
"""Where all tokens of long texts are in memory."""
_COLUMNS = {
    "score": "top_scores",
    "token_index": "top_token_index",
    "start": "window_start",
    "text_count": "top_text_counts",
    "text_index": "top_rows",
    "piece_index": "top_pieces",
}
"""What is said of each text, and the tensor that it comes from."""
_NEURONS_AT_ONCE = 256
Shown = tuple[str, str]
"""A stretch of a text, and the token at its peak."""


def write_top_texts_file(
    task: IndexNeurons, tensors: dict[str, Tensor], shown: list[Shown | None], context: TaskContext
) -> None:
    """Write task.top_texts_path whole, out of an index's tensors and what is shown of its top texts."""
    head = {
        "sae_id": task.sae.id,
        "index_id": task.index_id,
        "run_id": task.run_id,
        "layer": task.sae.layer,
    }
    with atomic_file(Path(task.top_texts_path)) as temporary, temporary.open("wb") as file:
        file.write(msgspec.json.encode(head)[:-1] + b',"neurons":[')
        n_neurons, tell = len(tensors["firing_count"]), stage(context, "writing top texts")
        for number, neuron in enumerate(_neurons(tensors, shown)):
            if number % _NEURONS_AT_ONCE == 0:
                tell(number, n_neurons)
            file.write((b",\n" if number else b"\n") + msgspec.json.encode(neuron))
        file.write(b"\n]}\n")


def shown_texts(
    tensors: dict[str, Tensor],
    dataset: TextDataset,
    tokenizer: TextTokenizer,
    max_length: int,
    context: TaskContext,
) -> list[Shown | None]:
    """Return what is shown of each entry of ``top_rows``, neuron by neuron; None where there is no text.

    Texts are tokenized once, in the dataset's order.
    """
    rows = tensors["top_rows"].flatten()
    names = ("window_start", "window_length", "top_token_index")
    split = "top_pieces" in tensors
    pieces = tensors["top_pieces"].flatten().tolist() if split else [0] * len(rows)
    starts, lengths, peaks = (tensors[name].flatten().tolist() for name in names)
    shown: list[Shown | None] = [None] * len(rows)
    sorted_rows, order = rows.sort(stable=True)
    used, counts = sorted_rows[sorted_rows >= 0].unique_consecutive(return_counts=True)
    entries = iter(order[sorted_rows >= 0].split(counts.tolist()))
    tell, done = stage(context, "reading top texts"), 0
    for some in used.split(_WHOLE_TEXTS_AT_ONCE if split else _TEXTS_AT_ONCE):
        tell(done, len(used))
        done += len(some)
        for cut in tokenizer.cut([dataset[row] for row in some.tolist()], max_length, split):
            for entry in next(entries).tolist():
                text = cut.piece(pieces[entry])
                shown[entry] = (text.stretch(starts[entry], lengths[entry]), text.token(peaks[entry]))
    return shown


def _neurons(tensors: dict[str, Tensor], shown: list[Shown | None]) -> Iterator[dict[str, Any]]:
    columns = {key: tensors[name].flatten().tolist() for key, name in _COLUMNS.items() if name in tensors}
    frequency, maxima = tensors["frequency"].tolist(), tensors["max_activation"].tolist()
    means, counts = tensors["mean_activation"].tolist(), tensors["firing_count"].tolist()
    k = tensors["top_rows"].shape[1]
    for neuron in range(len(counts)):
        entries = range(neuron * k, (neuron + 1) * k)
        yield {
            "neuron": neuron,
            "frequency": frequency[neuron],
            "max_activation": maxima[neuron],
            "mean_activation": means[neuron],
            "dead": counts[neuron] == 0,
            "texts": [
                _text(text, {key: column[entry] for key, column in columns.items()})
                for entry in entries
                if (text := shown[entry]) is not None
            ],
        }


def _text(shown: Shown, statistics: dict[str, Any]) -> dict[str, Any]:
    start = statistics.pop("start")
    return {
        "text": shown[0],
        "token": shown[1],
        "peak_index": statistics["token_index"] - start,
        "piece_index": 0,
        **statistics,
    }
