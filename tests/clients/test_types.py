"""What is generated fits the page's code, for this schema and for one that has grown."""

import sys
from pathlib import Path

import pytest

from tests.clients.conftest import (
    ARIADNE_CODEGEN,
    needs_ariadne_codegen,
    needs_node,
    needs_node_modules,
    run,
)
from tests.clients.snippets import ROOT

GROWN = {
    "union LaunchResult = ": "union LaunchResult = QuotaUsedUp | ",
    "union ImportConceptsResult = ": "union ImportConceptsResult = QuotaUsedUp | ",
    "enum JobStatus {": "enum JobStatus {\n  PAUSED",
}
NEW_TYPES = """
type QuotaUsedUp implements Error { code: ErrorCode! message: String! }
type JobPaused implements JobEvent { sequence: Int! at: DateTime! job: Job! }
"""


@pytest.fixture
def grown(page_files: Path, tmp_path: Path) -> Path:
    """Give the page's files with the schema of a later release."""
    for path in page_files.iterdir():
        if path.is_file() or path.is_symlink():
            (tmp_path / path.name).symlink_to(path)
    schema = (ROOT / "schema.graphql").read_text()
    for before, after in GROWN.items():
        assert before in schema
        schema = schema.replace(before, after)
    (tmp_path / "schema.graphql").unlink()
    (tmp_path / "schema.graphql").write_text(schema + NEW_TYPES)
    return tmp_path


@needs_ariadne_codegen
def test_the_python_clients_pass_mypys_strict_checks(generated_python: Path) -> None:
    checked = ["gql_client.py", "ariadne_client.py", "sae_api"]
    cache = ROOT / ".mypy_cache/clients"
    run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), *checked], generated_python)


@needs_node
@needs_node_modules
def test_the_typescript_client_passes_strict_checks_after_the_schema_has_grown(grown: Path) -> None:
    run(["node_modules/.bin/graphql-codegen", "--config", "codegen.ts"], grown)
    run(["node_modules/.bin/tsc", "--noEmit"], grown)

    assert "'QuotaUsedUp'" in (grown / "generated/graphql.ts").read_text()


@needs_ariadne_codegen
def test_the_python_client_is_generated_anew_after_the_schema_has_grown(grown: Path) -> None:
    run([str(ARIADNE_CODEGEN)], grown)

    assert "QuotaUsedUp" in (grown / "sae_api/capture.py").read_text()


@needs_node
@needs_node_modules
def test_a_refusal_of_a_later_release_is_a_refusal(page_files: Path) -> None:
    later = '{ __typename: "QuotaUsedUp", code: "QUOTA", message: "No more." }'
    script = f"""
        import {{ launched, Refused }} from "./shared.mjs";
        try {{ launched({later}); }} catch (error) {{ console.log(error instanceof Refused, error.message); }}
    """

    assert run(["node", "--input-type=module", "--eval", script], page_files) == "true No more.\n"
