"""Whether what was made under fire is what is made in peace: tensors to the bit, the rest but for IDs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.faults.database import Row, by_id, rows
from tests.faults.orders import INDEX, TRAINING
from tests.faults.reference import Reference
from tests.faults.subject import Subject
from tests.faults.tally import Tally

_TIMES = ("created_at",)
_IDS = ("run_id", "sae_id", "index_id", "language_model_id", "directory", "name")
_SPEED = "tokens_per_second"


def check_runs(directory: Path, reference: Reference, subjects: list[Subject], tally: Tally) -> None:
    """Compare each READY run that is left with the reference's, file by file."""
    files = tally.check("files of captures equal to the bit")
    plans = tally.check("plans and manifests equal but for IDs and times")
    for id, name in _made(directory, "activation_runs", subjects):
        expected = reference.directory / "store/runs" / reference.runs[name]
        found = directory / "store/runs" / id
        names = _files(expected)
        files.that(_files(found) == names, f"{id}: other files: {_files(found) ^ names}")
        for file in sorted(names & _files(found)):
            if file in ("plan.json", "manifest.json"):
                plans.that(_json(found / file) == _json(expected / file), f"{id}: {file} is different")
            else:
                same = (found / file).read_bytes() == (expected / file).read_bytes()
                files.that(same, f"{id}: {file} is different")
        texts = "datasets/{}/texts.arrow"
        same = (directory / texts.format(id)).read_bytes() == (
            reference.directory / texts.format(reference.runs[name])
        ).read_bytes()
        files.that(same, f"{id}: the texts are different")


def check_saes(directory: Path, reference: Reference, subjects: list[Subject], tally: Tally) -> None:
    """Compare each READY SAE that is left with the reference's."""
    weights = tally.check("tensors of SAEs equal to the bit")
    histories = tally.check("histories equal but for their speed, and in the database")
    points = rows(directory, "training_points", "sae_id, step")
    for id, name in _made(directory, "saes", subjects, TRAINING):
        found = directory / by_id(directory, "saes")[id]["directory"]
        expected_id = reference.saes[name]
        expected = reference.directory / by_id(reference.directory, "saes")[expected_id]["directory"]
        _compare_tensors(id, _tensors(found), _tensors(expected), weights.that)
        history = json.loads((found / "history.json").read_text())
        same = _without(history, _SPEED) == _without(
            json.loads((expected / "history.json").read_text()), _SPEED
        )
        histories.that(same, f"{id}: history.json is different")
        stored = [_without_key(point, "sae_id") for point in points if point["sae_id"] == id]
        histories.that(stored == history, f"{id}: the table has {len(stored)} of {len(history)} points")


def check_indexes(directory: Path, reference: Reference, subjects: list[Subject], tally: Tally) -> None:
    """Compare each READY index that is left with the reference's."""
    files = tally.check("files of indexes equal to the bit")
    texts = tally.check("files of top texts equal but for IDs")
    names = {s.result_id: s.order.name for s in subjects if s.order.kind == INDEX}
    expected_of = {row["sae_id"]: row for row in rows(reference.directory, "neuron_indexes")}
    for row in _ready(directory, "neuron_indexes"):
        expected = expected_of[reference.saes[names[row["sae_id"]]]]
        place = "store/runs/{}/batch_000000.safetensors"
        same = (directory / place.format(row["id"])).read_bytes() == (
            reference.directory / place.format(expected["id"])
        ).read_bytes()
        files.that(same, f"{row['id']} is different")
        found = _json(directory / row["top_texts_path"])
        texts.that(
            found == _json(reference.directory / expected["top_texts_path"]), f"{row['id']} is different"
        )


def _made(
    directory: Path, table: str, subjects: list[Subject], kind: str | None = None
) -> list[tuple[str, str]]:
    """Return ID and input's name of what is READY."""
    names = {s.result_id: s.order.name for s in subjects if kind is None or s.order.kind == kind}
    return [(row["id"], names[row["id"]]) for row in _ready(directory, table)]


def _ready(directory: Path, table: str) -> list[Row]:
    return [row for row in rows(directory, table) if row["status"] == "READY"]


def _files(directory: Path) -> set[str]:
    return {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}


def _tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint by their place in it."""
    found: dict[str, torch.Tensor] = {}

    def collect(value: Any, place: str) -> None:
        if isinstance(value, torch.Tensor):
            found[place] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{place}.{key}")

    collect(torch.load(directory / "sae.pt", map_location="cpu", weights_only=False), "")
    return found


def _compare_tensors(
    id: str,
    found: dict[str, torch.Tensor],
    expected: dict[str, torch.Tensor],
    that: Callable[[bool, str], None],
) -> None:
    that(found.keys() == expected.keys() and len(found) > 0, f"{id}: other tensors: {sorted(found)}")
    for name in found.keys() & expected.keys():
        off = (found[name].double() - expected[name].double()).abs().max().item()
        that(torch.equal(found[name], expected[name]), f"{id}: {name} is off by up to {off:g}")


def _json(path: Path) -> Any:
    """Return a file's content without IDs and times."""
    return _bare(json.loads(path.read_text()))


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = (*_TIMES, *_IDS)
        model = {"id"} if "location" in value else set()
        return {k: _bare(v) for k, v in value.items() if k not in left_out and k not in model}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _without(items: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [_without_key(item, key) for item in items]


def _without_key(item: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != key}
