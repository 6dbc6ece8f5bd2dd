"""What workers inherit from the server."""

import time
from pathlib import Path

import pytest

from tests.support.server_process import server_process


@pytest.mark.parametrize("name", ["GQL_SERVER_TOKEN", "gql_server_token"])
def test_workers_know_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    token = "only-for-clients"
    settings = {"WARM_UP": "true", "WORKERS": "2"}
    if name.isupper():
        settings["TOKEN"] = token
    else:
        monkeypatch.setenv(name, token)
    with server_process(tmp_path, **settings) as server:
        assert token in Path(f"/proc/{server.pid}/environ").read_text(), "the server has one"
        while (worker := server.worker("jobs")) is None:
            time.sleep(0.05)
        assert token not in Path(f"/proc/{worker}/environ").read_text()
