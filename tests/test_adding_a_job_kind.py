"""docs/adding-a-job-kind.md does what it says: a server runs from a copy of the tree with its blocks."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.client import Api, api, load_model
from tests.support.server_process import server_process

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/adding-a-job-kind.md"
BLOCK = re.compile(
    r"^\*\*`(?P<file>[^`]+)`\*\*, (?P<how>a new file|at the end|after|in place of)"
    r"(?: `(?P<line>[^\n]+)`)?:\n\n```python\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
MOST_FILES = 6
FOLLOW = """subscription($id: ID!) { jobProgress(id: $id) {
    __typename ... on JobStatusChanged { status error } ... on TokensCounted { batchIndex tokenCount } } }"""
RESULT = """query($id: ID!) { job(id: $id) {
    kind title request { __typename } result { ... on ActivationRun { id name tokenCount } } } }"""


@dataclass(frozen=True)
class Block:
    file: str
    how: str
    line: str | None
    code: str

    def apply(self, tree: Path) -> None:
        path = tree / self.file
        if self.how == "a new file":
            assert not path.exists()
            path.write_text(self.code)
            return
        lines = path.read_text().splitlines(keepends=True)
        if self.how == "at the end":
            path.write_text("".join([*lines, self.code]))
            return
        places = [place for place, line in enumerate(lines) if line.strip() == self.line]
        assert len(places) == 1, f"{self.file} has {self.line!r} {len(places)} times"
        kept = places[0] + (self.how == "after")
        path.write_text("".join([*lines[:kept], self.code, *lines[places[0] + 1 :]]))


def blocks() -> list[Block]:
    text = PAGE.read_text()
    found = [Block(**match.groupdict()) for match in BLOCK.finditer(text)]
    assert len(found) == text.count("```python"), "each block is headed by its file and place"
    return found


def copy_with(applied: list[Block], tree: Path) -> Path:
    for package in ("gql_server", "models", "migrations"):
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("static", "__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tree)
    for block in applied:
        block.apply(tree)
    return tree


def python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_with(blocks(), tmp_path_factory.mktemp("tree"))


def test_a_kind_of_job_is_added_in_six_files() -> None:
    assert len({block.file for block in blocks()}) <= MOST_FILES


def test_the_blocks_are_as_the_linter_wants_them(tree: Path) -> None:
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        found = python(tree, "-m", "ruff", *command, *{block.file for block in blocks()})
        assert found.returncode == 0, found.stdout + found.stderr


def test_the_schema_gains_what_clients_see_and_loses_nothing(tree: Path) -> None:
    exported = python(tree, "-m", "gql_server", "export-schema").stdout.splitlines()
    before = (ROOT / "schema.graphql").read_text().splitlines()
    assert [line for line in before if line not in exported] == []
    assert "type TokensCounted implements JobEvent {" in exported
    assert "  COUNT_TOKENS" in exported


async def test_a_job_of_the_new_kind_runs_from_its_mutation_over_its_own_event_to_its_result(
    tree: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    with server_process(tmp_path, tree=str(tree), MODEL_DIRS=str(tiny_model_dir)) as server:
        async with api(server.url) as client:
            run = await captured(client, tiny_model_dir)
            before = await token_count(client, run)
            with sqlite3.connect(tmp_path / "gql_server.sqlite3") as database:
                database.execute("UPDATE activation_runs SET token_count = 0")
            launched = await client.do("countTokens", "... on JobLaunched { job { id } }", id=("ID!", run))
            job = launched["job"]["id"]
            events = [data["jobProgress"] async for data in client.listen(FOLLOW, id=job)]
            assert events[-1] == {"__typename": "JobStatusChanged", "status": "SUCCEEDED", "error": None}
            counted = [event for event in events if event["__typename"] == "TokensCounted"]
            assert [event["batchIndex"] for event in counted] == [0, 1, 2]
            assert sum(event["tokenCount"] for event in counted) == before > 0
            found = (await client.ask(RESULT, id=job))["job"]
            name = found["result"].pop("name")
            assert found == {
                "kind": "COUNT_TOKENS",
                "title": f"Count the tokens of {name}",
                "request": {"__typename": "CountRequest"},
                "result": {"id": run, "tokenCount": before},
            }


async def captured(client: Api, model: Path) -> str:
    language_model = await load_model(client, str(model), "tiny")
    texts = {"dataset": {"builtIn": "PYTHON_REFERENCE"}, "sampleLimit": 6, "batchSize": 2, "maxLength": 16}
    layers = {"languageModelId": language_model, "layers": ["llamaforcausallm_model_layers_0"]}
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", layers | texts))
    return run


async def token_count(client: Api, run: str) -> int:
    document = "query($id: ID!) { activationRun(id: $id) { tokenCount } }"
    return int((await client.ask(document, id=run))["activationRun"]["tokenCount"])


@pytest.mark.parametrize(
    ("left_out", "imported", "sentence"),
    [
        (
            "gql_server/services/job_kinds.py",
            "gql_server.services.job_kinds",
            "No handler has the kind COUNT_TOKENS: write a subclass of JobHandler with it in a module of "
            "gql_server/services, and add that to HANDLERS in gql_server/services/job_kinds.py.",
        ),
        (
            "gql_server/compute/worker/task_runner.py",
            "gql_server.compute.worker.task_runner",
            "Nothing does CountTokens: add a method with @does(CountTokens) to "
            "gql_server/compute/worker/task_runner.py.",
        ),
        (
            "gql_server/api/activation_runs.py",
            "gql_server.api.schema",
            "No object type shows TOKENS_COUNTED: add one with @shows(JobEventType.TOKENS_COUNTED) to "
            "gql_server/api.",
        ),
    ],
)
def test_what_was_forgotten_is_told_at_import(
    tmp_path: Path, left_out: str, imported: str, sentence: str
) -> None:
    tree = copy_with([block for block in blocks() if block.file != left_out], tmp_path)
    found = python(tree, "-c", f"import {imported}")
    assert found.returncode == 1 and found.stderr.splitlines()[-1] == f"TypeError: {sentence}"
