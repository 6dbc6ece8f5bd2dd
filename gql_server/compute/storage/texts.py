"""The texts of a run or an evaluation, as a task opens them."""

from pathlib import Path

from gql_server.artifacts.datasets import TextDataset, UnreadableTexts
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import Log

OF_A_RUN = "The run's texts are missing or damaged: delete the run and capture it again."
OF_AN_EVALUATION = "The evaluation's texts are missing or damaged: call evaluateSae again."


def open_texts(directory: Path, reason: str = OF_A_RUN) -> TextDataset:
    """Open texts; TaskError with the reason where they are not there or damaged."""
    try:
        return TextDataset(directory)
    except (FileNotFoundError, UnreadableTexts) as error:
        raise TaskError(reason) from error


def log_skipped(dataset: TextDataset, context: TaskContext) -> None:
    """Tell of the rows that were left out of a dataset, where there are any."""
    if dataset.skipped.count:
        context.emit(Log(f"Of the dataset {dataset.skipped}"))
