"""What workers inherit from the server."""

import os
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


def test_each_job_worker_sees_the_gpu_that_is_its_own(tmp_path: Path) -> None:
    uuid = "GPU-5a4b3c2d-1e0f-9a8b-7c6d-5e4f3a2b1c0d"
    settings = {"JOB_WORKERS": "3", "JOB_WORKER_GPUS": f"4,{uuid}", "WORKER_DEVICE": "cpu"}
    with server_process(tmp_path, WARM_UP="true", **settings) as server:
        while len(workers := server.workers("jobs")) < 3:
            time.sleep(0.05)
        (interactive,) = server.workers("interactive")
        environments = [_environment(pid) for pid in (interactive, *workers)]
    seen = [environment.get("CUDA_VISIBLE_DEVICES") for environment in environments]
    assert seen == [os.environ.get("CUDA_VISIBLE_DEVICES"), "4", uuid, "4"]
    assert all(environment.get("PATH") == os.environ["PATH"] for environment in environments)


def _environment(pid: int) -> dict[str, str]:
    parts = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(part.split("=", 1) for part in parts if "=" in part)
