"""Uploads, as other processes can open them."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from gql_server.artifacts.files import temporary_path
from gql_server.errors import QueueFull
from gql_server.services import quota
from gql_server.settings import Settings

RETRY_SECONDS = 60


@asynccontextmanager
async def on_disk(settings: Settings, upload: BinaryIO) -> AsyncIterator[Path]:
    """Give the path of a file in the artifact directory that has an upload's content while the block runs.

    Raises:
        QueueFull: There is no room for it.
    """
    path = temporary_path(settings.artifact_dir.resolve())
    try:
        await asyncio.to_thread(_copy, settings, upload, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _copy(settings: Settings, upload: BinaryIO, path: Path) -> None:
    if upload.seek(0, os.SEEK_END) > quota.left(settings):
        message = "There is no room on the disk for the upload: delete runs or SAEs, and try again."
        raise QueueFull(message, RETRY_SECONDS, code="BUSY")
    upload.seek(0)  # One file may stand for several variables.
    with path.open("xb") as file:
        shutil.copyfileobj(upload, file)
