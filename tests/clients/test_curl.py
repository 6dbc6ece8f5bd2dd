"""The shell commands of docs/clients.md, and what becomes of uploads that may not be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import LAYER, MAX_UPLOAD_BYTES, TOKEN, Site, run
from tests.clients.snippets import files

GUARD = '  --header "GraphQL-Require-Preflight: 1" \\\n'

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Shell:
    """Runs the page's scripts in a directory of their own."""

    def __init__(self, directory: Path, site: Site) -> None:
        self.directory = directory
        self._site = site
        (directory / ".curlrc").write_text('write-out = "\\n%{http_code}"\n')
        (directory / "concepts.csv").write_text(site.arguments["csv"])
        (directory / "texts.jsonl").write_text(site.arguments["jsonl"])

    def run(self, script: str, *, token: str = TOKEN, after: int = 0) -> tuple[int, str]:
        """Return the status and the body of what is answered."""
        printed = run(
            ["sh", "-c", script],
            self.directory,
            CURL_HOME=str(self.directory),
            GRAPHQL_URL=f"{self._site.server.url}/graphql",
            GRAPHQL_TOKEN=token,
            LANGUAGE_MODEL=self._site.language_model,
            LAYER=LAYER,
            SAE=self._site.sae,
            JOB=self._site.training,
            AFTER=str(after),
        )
        body, _, status = printed.rpartition("\n")
        return int(status), body

    def data(self, script: str) -> dict[str, Any]:
        """Return the data of what is answered."""
        status, body = self.run(script)
        assert status == 200, body
        data: dict[str, Any] = json.loads(body)["data"]
        return data


@pytest.fixture
def shell(tmp_path: Path, site: Site) -> Shell:
    """Give a shell with the page's settings."""
    return Shell(tmp_path, site)


def code_of(body: str) -> str:
    """Return the code of a refusal over HTTP."""
    code: str = json.loads(body)["errors"][0]["extensions"]["code"]
    return code


def test_a_query_and_a_mutation_are_answered(shell: Shell) -> None:
    assert shell.data(files()["ask.sh"])["server"]["version"]
    assert shell.data(files()["launch.sh"])["captureActivations"]["job"]["id"]


def test_a_job_is_followed_from_a_number(shell: Shell, site: Site) -> None:
    after = site.last_sequence - 2
    status, body = shell.run(files()["follow.sh"], after=after)
    answers = [
        json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: {")
    ]
    events = [answer["data"]["jobProgress"] for answer in answers]

    assert status == 200
    assert [event["sequence"] for event in events] == [after + 1, after + 2]
    assert events[-1]["status"] == "SUCCEEDED"
    assert "event: complete" in body


def test_files_are_uploaded(shell: Shell) -> None:
    imported = shell.data(files()["concepts.sh"])["importConcepts"]
    launched = shell.data(files()["dataset.sh"])["captureActivations"]

    assert imported["__typename"] == "ConceptsImported"
    assert launched["job"]["id"]


@pytest.mark.parametrize("script", ["ask.sh", "follow.sh", "concepts.sh"])
def test_a_wrong_token_is_told(shell: Shell, script: str) -> None:
    status, body = shell.run(files()[script], token="wrong")

    assert status == 401
    assert code_of(body) == "UNAUTHENTICATED"


@pytest.mark.parametrize("script", ["concepts.sh", "dataset.sh"])
def test_an_upload_without_the_guarding_header_is_refused(shell: Shell, script: str) -> None:
    assert GUARD in files()[script]
    status, body = shell.run(files()[script].replace(GUARD, ""))

    assert status in (400, 403)
    assert json.loads(body)["errors"][0]["message"]


@pytest.mark.parametrize(("script", "name"), [("concepts.sh", "concepts.csv"), ("dataset.sh", "texts.jsonl")])
def test_an_upload_that_is_too_large_is_refused(shell: Shell, script: str, name: str) -> None:
    with (shell.directory / name).open("a") as file:
        file.write(" " * MAX_UPLOAD_BYTES)
    status, body = shell.run(files()[script])

    assert status == 413
    assert json.loads(body)["errors"][0]["message"]


def test_an_answer_tells_its_cost(shell: Shell) -> None:
    _, body = shell.run(files()["ask.sh"])
    cost = json.loads(body)["extensions"]["cost"]

    assert 0 < cost["estimated"] < cost["limit"]


def test_what_is_too_complex_is_told_with_its_limit(shell: Shell) -> None:
    versions = " ".join(f"v{number}: version" for number in range(40))
    _, body = shell.run(files()["ask.sh"].replace("version", versions))
    told = json.loads(body)["errors"][0]["extensions"]

    assert told["code"] == "TOO_COMPLEX" and told["limit"] == "aliases"
    assert told["actual"] == 40 > told["allowed"]
