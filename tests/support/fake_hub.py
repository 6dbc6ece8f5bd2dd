"""The Hugging Face Hub's side of a download, on the loopback interface: one repository, of a directory."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "owner/name"
COMMIT = "c" * 40
WEIGHTS = {".safetensors", ".npz", ".pt", ".pth", ".bin"}
"""Suffixes of files that are large, which the Hub keeps beside git and names by their SHA-256."""


@dataclass
class FakeHub:
    """What it has, and how it answers."""

    directory: Path
    url: str = ""
    answers: threading.Event = field(default_factory=threading.Event)
    """Unset, requests for weights wait."""
    asked: list[str] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    """Of the requests for a part of a file: its name, and which bytes."""
    commit: str = COMMIT
    """Which the branch main stands for."""
    is_gated: bool = False
    """Whether its files are not for everybody; their list is."""
    breaks_after: list[int] = field(default_factory=list)
    """After how many bytes each of the next answers with weights breaks off."""
    takes_ranges: bool = True
    damages: set[str] = field(default_factory=set)
    """Names of files whose last byte comes as another."""


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

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        path = self._asked()
        if path == f"/api/models/{REPOSITORY}/paths-info/{self.hub.commit}":
            files = [self.hub.directory / one for one in form["paths"]]
            self._send_json([self._entry(file) for file in files if file.exists()])
        else:
            self._refuse(path)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _asked(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        return path

    def _answer(self, *, with_body: bool) -> None:
        path = self._asked()
        api, files = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/{self.hub.commit}/"
        tree = f"{api}/tree/{self.hub.commit}"
        if path in (api, f"{api}/revision/main"):
            names = [{"rfilename": str(self._inner(file))} for file in self._files()]
            self._send_json({"id": REPOSITORY, "sha": self.hub.commit, "siblings": names, "private": False})
        elif path == tree or path.startswith(f"{tree}/"):
            self._send_tree(self.hub.directory / path.removeprefix(tree).lstrip("/"))
        elif self.hub.is_gated:
            self._refuse(path)
        elif path.startswith(files) and (file := self.hub.directory / path.removeprefix(files)).is_file():
            self._send_file(file, with_body=with_body)
        else:
            self._refuse(path)

    def _refuse(self, path: str) -> None:
        there = path.startswith((f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/"))
        code = "GatedRepo" if self.hub.is_gated else "RevisionNotFound" if there else "RepoNotFound"
        status = 403 if self.hub.is_gated else 404
        self._send(status, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"})

    def _files(self) -> list[Path]:
        return sorted(file for file in self.hub.directory.rglob("*") if file.is_file())

    def _inner(self, file: Path) -> Path:
        return file.relative_to(self.hub.directory)

    def _send_tree(self, folder: Path) -> None:
        recursive = parse_qs(urlsplit(self.path).query).get("recursive") == ["true"]
        self._send_json(
            [self._entry(one) for one in sorted(folder.rglob("*") if recursive else folder.iterdir())]
        )

    def _entry(self, file: Path) -> dict[str, Any]:
        path = str(self._inner(file))
        if file.is_dir():
            return {"type": "directory", "path": path, "oid": "0" * 40}
        size = file.stat().st_size
        entry: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": _sha(file)}
        if file.suffix in WEIGHTS:
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            entry["lfs"] = {"size": size, "oid": sha256, "pointerSize": 130}
        return entry

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, file: Path, *, with_body: bool) -> None:
        if with_body and file.suffix == ".safetensors":
            self.hub.answers.wait()
        headers = {"ETag": f'"{_sha(file)}"', "X-Repo-Commit": self.hub.commit, "Accept-Ranges": "bytes"}
        status, body = 200, file.read_bytes()
        if file.name in self.hub.damages:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if (asked := self.headers["Range"]) is not None:
            self.hub.ranges.append((file.name, asked))
        if asked is not None and self.hub.takes_ranges:
            begin, end = (int(number) for number in re.findall(r"\d+", asked))
            headers["Content-Range"] = f"bytes {begin}-{min(end, len(body) - 1)}/{len(body)}"
            status, body = 206, body[begin : end + 1]
        sent = None
        if with_body and file.suffix in WEIGHTS and self.hub.breaks_after:
            sent = self.hub.breaks_after.pop(0)
        self._send(status, body, headers, with_body=with_body, sent=sent)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        *,
        with_body: bool = True,
        sent: int | None = None,
    ) -> None:
        """Answer; with ``sent``, so much of the body, after which the connection breaks."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True


def _sha(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
