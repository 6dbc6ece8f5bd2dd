"""The top-texts JSON file: each neuron with its statistics and the texts on which it fires most strongly."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer
from torch import Tensor

from gql_server.compute.context import TaskContext
from gql_server.compute.messages.tasks import IndexNeurons
from gql_server.datasets import TextDataset
from gql_server.files import whole_file
from gql_server.top_texts import TokenizedText

_TEXTS_BETWEEN_CHECKS = 256


def write_top_texts_file(
    task: IndexNeurons,
    tensors: dict[str, Tensor],
    dataset: TextDataset,
    tokenizer: Tokenizer,
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
    tokenizer: Tokenizer,
    max_length: int,
    context: TaskContext,
) -> dict[tuple[int, int], tuple[str, str]]:
    """Return stretch and token of each (neuron, place); texts are tokenised once, in the dataset's order."""
    rows, starts = tensors["top_rows"].tolist(), tensors["window_start"].tolist()
    lengths, peaks = tensors["window_length"].tolist(), tensors["top_token_index"].tolist()
    entries = sorted(
        (row, n, place) for n, places in enumerate(rows) for place, row in enumerate(places) if row >= 0
    )
    shown = {}
    for number, (row, group) in enumerate(groupby(entries, key=itemgetter(0))):
        if number % _TEXTS_BETWEEN_CHECKS == 0:
            context.check()
        text = TokenizedText(dataset[row], tokenizer, max_length)
        for _, n, place in group:
            stretch = text.stretch(starts[n][place], lengths[n][place])
            shown[n, place] = (stretch, text.token(peaks[n][place]))
    return shown


def _neurons(
    tensors: dict[str, Tensor], shown: dict[tuple[int, int], tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    scores, tokens = tensors["top_scores"].tolist(), tensors["top_token_index"].tolist()
    frequency, maxima = tensors["frequency"].tolist(), tensors["max_activation"].tolist()
    means, counts = tensors["mean_activation"].tolist(), tensors["firing_count"].tolist()
    for neuron in range(len(counts)):
        places = [place for place in range(len(scores[neuron])) if (neuron, place) in shown]
        yield {
            "neuron": neuron,
            "frequency": frequency[neuron],
            "max_activation": maxima[neuron],
            "mean_activation": means[neuron],
            "dead": counts[neuron] == 0,
            "texts": [
                {
                    "text": shown[neuron, place][0],
                    "score": scores[neuron][place],
                    "token": shown[neuron, place][1],
                    "token_index": tokens[neuron][place],
                }
                for place in places
            ],
        }
