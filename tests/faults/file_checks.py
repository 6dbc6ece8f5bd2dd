"""Whether every file belongs to a row and every row has its files."""

import json
from collections.abc import Iterator
from pathlib import Path

from tests.faults.database import Row, by_id, rows
from tests.faults.tally import Tally

_FIXED = {"gql_server.sqlite3", "gql_server.sqlite3-wal", "gql_server.sqlite3-shm", ".lock", "server.log"}
_ARTIFACTS = ("store/runs/*", "datasets/*", "models/*", "sae/*/*")
_TABLES = ("language_models", "activation_runs", "saes", "neuron_indexes")
_ENDED_WELL = {
    "CAPTURE_ACTIVATIONS": "activation_runs",
    "TRAIN_SAE": "saes",
    "INDEX_NEURONS": "neuron_indexes",
}


def check_files(directory: Path, deleted: set[str], tally: Tally) -> None:
    """Hold the directory's files and the tables' rows against each other."""
    tables = {table: by_id(directory, table) for table in _TABLES}
    allowed = set(_allowed(directory, tables))
    files = tally.check("files that belong to a row")
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = str(file.relative_to(directory))
        files.that(name in allowed, f"{name} belongs to nothing")
    directories = tally.check("directories that belong to a row")
    ids = {id for table in tables.values() for id in table}
    for place in sorted(path for pattern in _ARTIFACTS for path in directory.glob(pattern)):
        directories.that(place.name in ids, f"{place.relative_to(directory)} belongs to nothing")
    directories.that(not (directory / "orphans").exists(), "something has been moved to orphans")
    _check_ready(directory, tables, tally)
    _check_rows(directory, tables, deleted, tally)


def _allowed(directory: Path, tables: dict[str, dict[str, Row]]) -> Iterator[str]:
    """Give every file that may be there."""
    yield from _FIXED
    for id in tables["language_models"]:
        yield from _below(directory, f"models/{id}")
    for id, run in tables["activation_runs"].items():
        yield f"datasets/{id}/texts.arrow"
        yield from _of_run(directory, id, run)
    for id, index in tables["neuron_indexes"].items():
        yield f"store/runs/{id}/batch_000000.safetensors"
        yield f"store/runs/{id}/provenance.json"
        yield f"store/runs/{id}/search.sqlite3"
        yield f"{tables['saes'][index['sae_id']]['directory']}/top_texts/{id}.json"
    for sae in tables["saes"].values():
        names = ["sae.pt", "metadata.json", "history.json"]
        names += [] if sae["status"] == "READY" else ["snapshot.pt"]
        yield from (f"{sae['directory']}/{name}" for name in names)


def _of_run(directory: Path, id: str, run: Row) -> Iterator[str]:
    """Give a run's files: each batch's are what its record lists, and what tells of their metadata."""
    place = f"store/runs/{id}"
    yield from (f"{place}/plan.json", f"{place}/manifest.json")
    for record in (directory / place).glob("batch_*/batch.json"):
        batch = f"{place}/{record.parent.name}"
        layers = [layer["name"] for layer in run["layers"]]
        yield from (f"{batch}/{name}" for name in json.loads(record.read_text())["sha256"])
        yield from (f"{batch}/{name}" for name in ("batch.json", "metadata.json"))
        yield from (f"{batch}/{layer}/metadata.json" for layer in [*layers, "attention_masks"])


def _below(directory: Path, place: str) -> Iterator[str]:
    yield from (str(path.relative_to(directory)) for path in (directory / place).rglob("*"))


def _check_ready(directory: Path, tables: dict[str, dict[str, Row]], tally: Tally) -> None:
    """Look for the files of what is READY."""
    check = tally.check("READY rows whose files are there")
    for table in ("activation_runs", "saes", "neuron_indexes"):
        for id, row in tables[table].items():
            if row["status"] == "READY":
                missing = [name for name in _needed(table, id, row) if not (directory / name).is_file()]
                check.that(not missing, f"{id}: no {', '.join(missing)}")


def _needed(table: str, id: str, row: Row) -> list[str]:
    if table == "activation_runs":
        batches = [f"store/runs/{id}/batch_{index}/batch.json" for index in range(row["batch_count"])]
        return [row["manifest_path"], f"datasets/{id}/texts.arrow", *batches]
    if table == "saes":
        return [row["checkpoint_path"], row["metadata_path"], f"{row['directory']}/history.json"]
    return [row["top_texts_path"], f"store/runs/{id}/batch_000000.safetensors"]


def _check_rows(directory: Path, tables: dict[str, dict[str, Row]], deleted: set[str], tally: Tally) -> None:
    """Look for rows of what was deleted, for READY ones of what succeeded, and for what is still to go."""
    ids = {id for table in tables.values() for id in table}
    gone = tally.check("nothing left of what was deleted")
    points = {point["sae_id"] for point in rows(directory, "training_points")}
    for id in deleted:
        gone.that(id not in ids and id not in points, f"{id} still has a row")
    removals = [row["path"] for row in rows(directory, "removals")]
    gone.that(not removals, f"removals not done: {removals}")
    succeeded = tally.check("what a job that succeeded made is READY")
    for job in rows(directory, "jobs"):
        table = _ENDED_WELL.get(job["kind"])
        if table and job["status"] == "SUCCEEDED" and job["result_id"] not in deleted:
            row = tables[table].get(job["artifact_id"])
            fine = row["status"] == "READY" if row else _is_replaced(tables, job)
            succeeded.that(fine, f"{job['id']}: {job['artifact_id']} is {row['status'] if row else 'gone'}")


def _is_replaced(tables: dict[str, dict[str, Row]], job: Row) -> bool:
    """Whether a newer index of the same SAE is READY."""
    indexes = tables["neuron_indexes"].values()
    newer = [row for row in indexes if row["sae_id"] == job["result_id"] and row["status"] == "READY"]
    return job["kind"] == "INDEX_NEURONS" and len(newer) == 1
