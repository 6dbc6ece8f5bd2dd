"""The Hugging Face Hub's side of a download, on the loopback interface: one repository, of a directory."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = "owner/name"
COMMIT = "c" * 40


@dataclass
class FakeHub:
    """What it has, and how it answers."""

    directory: Path
    url: str = ""
    answers: threading.Event = field(default_factory=threading.Event)
    """Unset, requests for weights wait."""
    asked: list[str] = field(default_factory=list)


@contextmanager
def fake_hub(directory: Path) -> Iterator[FakeHub]:
    """Serve a directory as the repository while the block runs."""
    hub = FakeHub(directory)
    hub.answers.set()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.answers.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        api, files = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/main"):
            names = [{"rfilename": file.name} for file in self._files()]
            self._send_json({"id": REPOSITORY, "sha": COMMIT, "siblings": names, "private": False})
        elif path == f"{api}/tree/{COMMIT}":
            self._send_json([self._entry(file) for file in self._files()])
        elif path.startswith(files) and (file := self.hub.directory / path.removeprefix(files)).is_file():
            self._send_file(file, with_body=with_body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "Content-Type": "application/json"})

    def _files(self) -> list[Path]:
        return sorted(self.hub.directory.iterdir())

    def _entry(self, file: Path) -> dict[str, Any]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _sha(file)}

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, file: Path, *, with_body: bool) -> None:
        if with_body and file.suffix == ".safetensors":
            self.hub.answers.wait()
        headers = {"ETag": f'"{_sha(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        self._send(200, file.read_bytes(), headers, with_body=with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _sha(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
