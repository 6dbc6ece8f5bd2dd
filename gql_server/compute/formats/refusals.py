"""What is wrong with somebody else's files, as a task says it."""

from collections.abc import Iterator
from contextlib import contextmanager

from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.refusing import NotRepresentable


@contextmanager
def as_task_errors() -> Iterator[None]:
    """Raise TaskError for NotRepresentable."""
    try:
        yield
    except NotRepresentable as error:
        raise TaskError(error.reason) from error
