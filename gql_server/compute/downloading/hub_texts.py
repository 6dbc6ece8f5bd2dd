"""Texts from the Hugging Face Hub, kept as a dataset of the server's own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gql_server.artifacts.datasets import write_texts
from gql_server.compute.downloading.silence import Silence
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import HubDataset
from gql_server.text_files.problems import RowProblem
from gql_server.text_files.rows import SkippedRows, named, text_in, value_at


def download_texts(
    hub: HubDataset, directory: Path, wanted: int | None, limit: int, tell: Callable[[int], None]
) -> None:
    """Write the first ``wanted`` texts, or all, as the dataset ``directory``, unless it is there.

    ``tell`` is called with how many rows have come; what it raises ends the download without a trace.
    Raises TaskError INVALID where there are more than ``limit``, CONFLICT where the Hub does not give them.
    """
    if directory.is_dir():
        return
    if wanted is not None and wanted > limit:
        raise TaskError(_too_many(limit), "INVALID", ("dataset",))
    skipped = SkippedRows()
    write_texts(directory, _checked(_texts(hub, skipped, tell), wanted, limit), skipped)


def _too_many(limit: int) -> str:
    return f"The dataset has more than the {limit} texts that a run may have; give a sampleLimit."


def _texts(hub: HubDataset, skipped: SkippedRows, tell: Callable[[int], None]) -> Iterator[str]:
    _check_repository(hub.repository)
    try:
        for number, row in enumerate(_rows(hub)):
            tell(number + 1)
            try:
                yield text_in(_value(hub, row), hub.text_field)
            except RowProblem as problem:
                _refuse_or_skip(hub, f"row {number} {problem}", skipped)
    except (TaskError, MemoryError, Silence):
        raise
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        reason = f"The dataset {hub.repository} could not be had from the Hub: {first_line}."
        raise TaskError(reason, "CONFLICT") from error


def _check_repository(repository: str) -> None:
    """Refuse what the datasets library would take for a path or for the name of one of its file readers."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repository)
        is_name = repository not in _PACKAGED_DATASETS_MODULES
    except HFValidationError:
        is_name = False
    if not is_name:
        reason = f"{repository!r} is not the name of a dataset on the Hub, such as owner/name."
        raise TaskError(reason, "INVALID", ("dataset", "huggingFace", "repository"))


def _rows(hub: HubDataset) -> Any:
    """Return the rows, streamed; all of them out of files on the Hub."""
    import datasets

    datasets.disable_progress_bars()
    # Without the prefix a directory of that name here would be read.
    place = f"hf://datasets/{hub.repository}"
    builder = datasets.load_dataset_builder(place, hub.config, revision=hub.revision)
    files = [file for split in (builder.config.data_files or {}).values() for file in split]
    # Trap: a repository's own README may list any path as one of its files, also one on this machine.
    if not all(str(file).rpartition("::")[2].startswith("hf://") for file in files):
        raise TaskError(f"The dataset {hub.repository} lists files that are not on the Hub.", "CONFLICT")
    return builder.as_streaming_dataset(split=hub.split)


def _value(hub: HubDataset, row: dict[str, Any]) -> Any:
    try:
        return value_at(row, hub.text_field)
    except KeyError:
        if any(hub.text_field.startswith(f"{column}.") for column in row):
            raise RowProblem(f"has no {hub.text_field!r}") from None
        columns = named(list(row))
        reason = f"The dataset {hub.repository} has no column {hub.text_field!r}; its columns: {columns}."
        raise TaskError(reason, "INVALID", ("dataset",)) from None


def _refuse_or_skip(hub: HubDataset, problem: str, skipped: SkippedRows) -> None:
    if not hub.skip_bad_rows:
        advice = "Leave such rows out with skipBadRows, or choose another column."
        raise TaskError(f"In the dataset {hub.repository} {problem}. {advice}", "INVALID", ("dataset",))
    skipped.add(problem)


def _checked(texts: Iterator[str], wanted: int | None, limit: int) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number == wanted:
            return
        if number == limit:
            raise TaskError(_too_many(limit), "INVALID", ("dataset",))
        yield text
