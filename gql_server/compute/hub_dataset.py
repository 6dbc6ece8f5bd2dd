"""Texts from the Hugging Face Hub, kept as a dataset of the server's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gql_server.compute.context import TaskContext, TaskError
from gql_server.compute.messages import HubDataset
from gql_server.datasets import write_texts

_ROWS_BETWEEN_CHECKS = 256


def download(hub: HubDataset, directory: Path, wanted: int | None, limit: int, context: TaskContext) -> None:
    """Write the first ``wanted`` texts, or all, as the dataset ``directory``, unless it is there.

    Raises TaskError INVALID where there are more than ``limit``, CONFLICT where the Hub does not give them.
    """
    if directory.is_dir():
        return
    if wanted is not None and wanted > limit:
        raise TaskError(_too_many(limit), "INVALID", ("dataset",))
    write_texts(directory, _checked(_texts(hub), wanted, limit, context))


def _too_many(limit: int) -> str:
    return f"The dataset has more than the {limit} texts that a run may have; give a sampleLimit."


def _texts(hub: HubDataset) -> Iterator[str]:
    import datasets

    datasets.disable_progress_bars()
    try:
        rows: Any = datasets.load_dataset(
            hub.repository, hub.config, split=hub.split, revision=hub.revision, streaming=True
        )
        for number, row in enumerate(rows):
            yield _text(hub, number, row)
    except (TaskError, MemoryError):
        raise
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        reason = f"The dataset {hub.repository} could not be had from the Hub: {first_line}."
        raise TaskError(reason, "CONFLICT") from error


def _text(hub: HubDataset, number: int, row: dict[str, Any]) -> str:
    text = row.get(hub.text_field)
    if isinstance(text, str):
        return text
    if hub.text_field not in row:
        columns = ", ".join(repr(column) for column in row)
        reason = f"The dataset {hub.repository} has no column {hub.text_field!r}; its columns: {columns}."
    else:
        reason = f"{hub.text_field!r} is not a string in row {number} of the dataset {hub.repository}."
    raise TaskError(reason, "INVALID", ("dataset",))


def _checked(texts: Iterator[str], wanted: int | None, limit: int, context: TaskContext) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number == wanted:
            return
        if number == limit:
            raise TaskError(_too_many(limit), "INVALID", ("dataset",))
        if number % _ROWS_BETWEEN_CHECKS == 0:
            context.check()
        yield text
