"""Whether what a job is going to write will fit on the disk and under the server's limit."""

import shutil
from collections.abc import Sequence

from gql_server.artifacts.disk import used_bytes
from gql_server.errors import InvalidInput
from gql_server.settings import Settings


def under_limit(settings: Settings) -> int | None:
    """Return how many bytes the artifact directory may still take; None without a limit. Takes its time."""
    if settings.max_artifact_bytes is None:
        return None
    return max(0, settings.max_artifact_bytes - used_bytes(settings.artifact_dir))


def left(settings: Settings) -> int:
    """Return how many bytes may still be written. Takes its time."""
    free = shutil.disk_usage(settings.artifact_dir).free - settings.min_free_bytes
    limit = under_limit(settings)
    return max(0, free if limit is None else min(free, limit))


def check(path: str | Sequence[str], needed_bytes: int, what: str, settings: Settings) -> None:
    """Refuse what is too large; takes its time, so call it in a thread.

    Args:
        path: The field of the input that decides the size.
        needed_bytes: About how much it will take.
        what: Names it in the sentence, in the plural.
        settings: The server's.

    Raises:
        InvalidInput: There is less room than that.
    """
    room = left(settings)
    if needed_bytes > room:
        raise InvalidInput.at(
            path,
            f"{what} would take about {_megabytes(needed_bytes)}, and there is room for {_megabytes(room)}: "
            "ask for less, or delete runs or SAEs.",
        )


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
