"""The texts of a run, as a task opens them."""

from pathlib import Path

from gql_server.compute.context import TaskError
from gql_server.datasets import TextDataset, UnreadableTexts


def open_texts(directory: Path) -> TextDataset:
    """Open a run's texts; TaskError where they are not there or damaged."""
    try:
        return TextDataset(directory)
    except (FileNotFoundError, UnreadableTexts) as error:
        raise TaskError(
            "The run's texts are missing or damaged: delete the run and capture it again."
        ) from error
