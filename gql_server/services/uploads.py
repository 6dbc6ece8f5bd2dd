"""Uploads, as other processes can open them."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from gql_server.files import TEMPORARY_PREFIX
from gql_server.settings import Settings


@asynccontextmanager
async def on_disk(settings: Settings, upload: BinaryIO) -> AsyncIterator[Path]:
    """Give the path of a file in the artifact directory that has an upload's content while the block runs."""
    path = settings.artifact_dir.resolve() / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        await asyncio.to_thread(_copy, upload, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _copy(upload: BinaryIO, path: Path) -> None:
    upload.seek(0)  # One file may stand for several variables.
    with path.open("xb") as file:
        shutil.copyfileobj(upload, file)
