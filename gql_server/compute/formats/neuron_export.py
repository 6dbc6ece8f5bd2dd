"""An SAE's neurons as files to share: JSON lines in Neuronpedia's layout, or one Parquet file.

docs/import-export.md says what the fields and columns are.
"""

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from gql_server.artifacts.top_texts import StoredTopText
from gql_server.compute.formats.neuron_records import Histogram, NeuronRecord, NeuronRecords, Ranked

NEURONS_PER_FILE = 1024
"""Of a file of JSON lines."""
ROWS_PER_GROUP = 256
"""Of a Parquet file, which are in memory at once."""
_TOKENS_SHOWN = 10
"""Tokens that Neuronpedia shows a neuron to raise and to lower."""
_COMPRESSION_LEVEL = 5
Tell = Callable[[int, int], None]


def write_neuronpedia(
    records: NeuronRecords, directory: Path, model: str, source: str, hook_name: str | None, tell: Tell
) -> None:
    """Write features/, activations/ and explanations/, each with batch-0.jsonl.gz and so on.

    Explanations are all in one file, and in none where no neuron has a name.

    Args:
        records: The neurons.
        directory: To write into.
        model: Neuronpedia's name of the language model.
        source: Its name of the SAE.
        hook_name: TransformerLens' name of the place, where it has one.
        tell: Called with the neurons that are done, and how many there are.
    """
    for name in ("features", "activations", "explanations"):
        (directory / name).mkdir()
    common = {"modelId": model, "layer": source}
    with ExitStack() as open_files:
        explanations: gzip.GzipFile | None = None
        rest = iter(records)
        for number in range(-(-records.count // NEURONS_PER_FILE)):
            name = f"batch-{number}.jsonl.gz"
            with (
                _gzip(directory / "features" / name) as features,
                _gzip(directory / "activations" / name) as activations,
            ):
                for record in islice(rest, NEURONS_PER_FILE):
                    tell(record.neuron, records.count)
                    of_neuron = common | {"index": str(record.neuron)}
                    _write_line(features, of_neuron | _feature(record, records.token_text, hook_name))
                    for rank, text in enumerate(record.top_texts or []):
                        id = f"{source}-{record.neuron}-{rank}"
                        _write_line(activations, {"id": id} | of_neuron | _activation(text))
                    if record.name is not None:
                        if explanations is None:
                            path = directory / "explanations" / "batch-0.jsonl.gz"
                            explanations = open_files.enter_context(_gzip(path))
                        _write_line(explanations, of_neuron | _explanation(record))


@contextmanager
def _gzip(path: Path) -> Iterator[gzip.GzipFile]:
    """Open a gzip file that is the same whenever what is written is."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, file, mtime=0) as packed:
        yield packed


def _write_line(file: gzip.GzipFile, content: Mapping[str, Any]) -> None:
    # What is no finite number becomes null, which JSON has.
    file.write(msgspec.json.encode(content) + b"\n")


def _feature(record: NeuronRecord, token_text: Callable[[int], str], hook_name: str | None) -> dict[str, Any]:
    promoted, suppressed = (
        [(token_text(token), value) for token, value in (ranked or [])[:_TOKENS_SHOWN]]
        for ranked in (record.promoted, record.suppressed)
    )
    return {
        "maxActApprox": record.max_activation,
        "frac_nonzero": record.frequency,
        "hookName": hook_name,
        "hasVector": False,
        "vector": [],
        "pos_str": _first(promoted),
        "pos_values": _second(promoted),
        "neg_str": _first(suppressed),
        "neg_values": _second(suppressed),
        **_bars("freq_hist_data", record.activations),
        **_bars("logits_hist_data", record.effects),
        "topkCosSimIndices": _first(record.similar),
        "topkCosSimValues": _second(record.similar),
        "correlated_features_indices": _first(record.correlated),
        "correlated_features_pearson": _second(record.correlated),
    }


def _bars(name: str, histogram: Histogram | None) -> dict[str, Any]:
    """Return the bars of a histogram: as many values, the middles of the bins, as heights."""
    return {
        f"{name}_bar_heights": [] if histogram is None else histogram.counts,
        f"{name}_bar_values": [] if histogram is None else histogram.centers,
    }


def _activation(text: StoredTopText) -> dict[str, Any]:
    values = [value for _, value in text.tokens]
    return {
        "tokens": [token for token, _ in text.tokens],
        "values": values,
        "maxValue": text.score,
        "maxValueTokenIndex": text.peak_index,
        "minValue": min(values, default=0.0),
        "qualifyingTokenIndex": text.peak_index,
        "dataIndex": str(text.row),
    }


def _explanation(record: NeuronRecord) -> dict[str, Any]:
    assert record.name is not None
    name = record.name
    return {"description": name.name, "score": name.score, "notes": name.note, "source": name.source}


def _first(pairs: Sequence[tuple[Any, float]] | None) -> list[Any]:
    return [one for one, _ in pairs or []]


def _second(pairs: Sequence[tuple[Any, float]] | None) -> list[float]:
    return [value for _, value in pairs or []]


# ------------------------------------------------------------------------------------ Parquet


def write_parquet(records: NeuronRecords, path: Path, tell: Tell) -> None:
    """Write one row a neuron; see ``parquet_schema``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = parquet_schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rest = _rows(records, tell)
        while part := list(islice(rest, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(part, schema))


def parquet_schema() -> Any:
    """Return the columns, with what each means."""
    import pyarrow as pa

    def column(name: str, type: Any, meaning: str) -> Any:
        return pa.field(name, type, metadata={"description": meaning})

    token_effects = pa.list_(pa.struct([("token", pa.string()), ("effect", pa.float32())]))
    text = pa.struct(
        [
            ("tokens", pa.list_(pa.string())),
            ("activations", pa.list_(pa.float32())),
            ("score", pa.float32()),
            ("peak_index", pa.int32()),
            ("text_index", pa.int64()),
            ("piece_index", pa.int32()),
        ]
    )
    neurons = pa.list_(pa.struct([("neuron", pa.int32()), ("value", pa.float32())]))
    return pa.schema(
        [
            column("neuron", pa.int32(), "From 0."),
            column("name", pa.string(), "Null where it has none."),
            column("score", pa.float64(), "Of the name; null where it has none."),
            column("note", pa.string(), "On the name."),
            column("name_source", pa.string(), "MANUAL, GENERATED or IMPORTED."),
            column("firing_count", pa.int64(), "Tokens on which it fires."),
            column("frequency", pa.float64(), "Their share of all tokens."),
            column("max_activation", pa.float64(), "Its strongest latent."),
            column("mean_activation", pa.float64(), "The mean of its latents that are not 0."),
            column("histogram_counts", pa.list_(pa.int64()), "Its latents in equal bins from 0."),
            column("histogram_limit", pa.float64(), "Where the last bin ends."),
            column("promoted_tokens", token_effects, "Output tokens that it raises most."),
            column("suppressed_tokens", token_effects, "Output tokens that it lowers most."),
            column("similar_neurons", neurons, "By the cosine of their decoder directions."),
            column("correlated_neurons", neurons, "By the correlation of their latents."),
            column("top_texts", pa.list_(text), "Stretches of texts on which it fires most."),
        ]
    )


def _rows(records: NeuronRecords, tell: Tell) -> Iterator[dict[str, Any]]:
    for record in records:
        tell(record.neuron, records.count)
        name = record.name
        yield {
            "neuron": record.neuron,
            "name": name and name.name,
            "score": name and name.score,
            "note": name and name.note,
            "name_source": name and name.source,
            "firing_count": record.firing_count,
            "frequency": record.frequency,
            "max_activation": record.max_activation,
            "mean_activation": record.mean_activation,
            "histogram_counts": record.activations.counts,
            "histogram_limit": record.activations.high,
            "promoted_tokens": _effects(record.promoted, records.token_text),
            "suppressed_tokens": _effects(record.suppressed, records.token_text),
            "similar_neurons": _neurons(record.similar),
            "correlated_neurons": _neurons(record.correlated),
            "top_texts": None if record.top_texts is None else [_text(one) for one in record.top_texts],
        }


def _effects(ranked: Ranked | None, token_text: Callable[[int], str]) -> list[dict[str, Any]] | None:
    if ranked is None:
        return None
    return [{"token": token_text(token), "effect": effect} for token, effect in ranked]


def _neurons(ranked: Ranked | None) -> list[dict[str, Any]] | None:
    return None if ranked is None else [{"neuron": neuron, "value": value} for neuron, value in ranked]


def _text(text: StoredTopText) -> dict[str, Any]:
    return {
        "tokens": [token for token, _ in text.tokens],
        "activations": [value for _, value in text.tokens],
        "score": text.score,
        "peak_index": text.peak_index,
        "text_index": text.row,
        "piece_index": text.piece,
    }
