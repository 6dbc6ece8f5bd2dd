"""The files of the pages that the server shows: packed where a browser takes it, and kept by it for long."""

import os
import re
from mimetypes import guess_type
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, PathLike, StaticFiles
from starlette.types import Scope

from gql_server.api.transport.negotiation import names

_HASHED = re.compile(r"-(?=[\w-]*[A-Z0-9])[\w-]{8}(\.\w+)+$")
"""A name as bundlers make it, such as index-B3x_9aZq.js: other contents have another name."""

FOR_GOOD = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
"""A browser keeps the file, and asks each time whether it is still the one."""

_TYPES = {".ttf": "font/ttf", ".woff2": "font/woff2"}
"""Those that Python knows only where the system tells it."""


class BundledFiles(StaticFiles):
    """What the bundlers wrote, which may not be built yet.

    A file with ``.gz`` after its name is the one beside it, packed: it is what clients get that take gzip.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory, check_dir=False)

    async def check_config(self) -> None:
        """Accept that the directory is missing: its files are answered with 404."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer a request for a file.

        Raises:
            HTTPException: 404 where there is none, or for a packed one by its own name.
        """
        if path.endswith(".gz"):
            raise HTTPException(404)
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Answer with a file, packed where it can be, or that the client has it already."""
        path, sent = Path(full_path), Headers(scope=scope)
        headers = {"Cache-Control": FOR_GOOD if _HASHED.search(path.name) else ASK_AGAIN}
        chosen = path
        if packed := _packed(path):
            headers["Vary"] = "Accept-Encoding"
            if names(", ".join(sent.getlist("accept-encoding")), "gzip"):
                chosen, stat_result = packed
                headers["Content-Encoding"] = "gzip"
        response = FileResponse(chosen, status_code, headers, _media_type(path), stat_result=stat_result)
        if self.is_not_modified(response.headers, sent):
            return NotModifiedResponse(response.headers)
        return response


def _media_type(path: Path) -> str:
    return _TYPES.get(path.suffix) or guess_type(path.name)[0] or "application/octet-stream"


def _packed(path: Path) -> tuple[Path, os.stat_result] | None:
    packed = path.with_name(f"{path.name}.gz")
    try:
        return packed, packed.stat()
    except FileNotFoundError:
        return None
