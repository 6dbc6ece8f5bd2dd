"""A file of the Hub, got in pieces: what has come before a connection breaks stays, and is gone on from."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx
from huggingface_hub import constants
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
)

TRIES = 5
"""How often nothing may come of a request, one after the other."""
PAUSE_SECONDS = 1.0


def get_until(url: str, file: Path, until: int, on_bytes: Callable[[int], None]) -> None:
    """Append to a file what the Hub has of it, until it has so many bytes.

    huggingface_hub keeps nothing of a download that has failed, so that each begins anew.

    Args:
        url: Of what it is at a commit, so that it is always the same.
        file: Has the first bytes, or is not there.
        until: Its length then.
        on_bytes: Called for each piece that comes, with its length; what it raises ends the download.

    Raises:
        Exception: Whatever huggingface_hub and httpx do, where nothing comes any more.
    """
    failures = 0
    with file.open("ab") as target:
        while (had := target.tell()) < until:
            problem: Exception | None = None
            try:
                _append(url, target, until, on_bytes)
            except httpx.TransportError as error:
                problem = error
            failures = 0 if target.tell() > had else failures + 1
            if failures == TRIES:
                raise problem or httpx.RemoteProtocolError("The Hub has sent less of the file than it has.")
            if target.tell() < until:
                time.sleep(PAUSE_SECONDS)


def _append(url: str, target: BinaryIO, until: int, on_bytes: Callable[[int], None]) -> None:
    had = target.tell()
    # Packed, a file has another length than the Hub says.
    headers = {"Range": f"bytes={had}-{until - 1}", "Accept-Encoding": "identity"}
    with http_stream_backoff(
        "GET",
        url,
        headers=build_hf_headers() | headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        retry_on_exceptions=(),
    ) as response:
        hf_raise_for_status(response)
        to_skip = 0 if response.status_code == httpx.codes.PARTIAL_CONTENT else had
        # As they come: of pieces of a given size, one that a broken connection cuts off would be lost.
        for piece in response.iter_bytes():
            on_bytes(len(piece))
            target.write(piece[to_skip:][: until - target.tell()])
            to_skip = max(0, to_skip - len(piece))
            if target.tell() == until:
                return
