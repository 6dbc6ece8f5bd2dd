"""The documents of the explorer, compiled and typed by the tools that frontends use."""

import json
import re
import shutil
from pathlib import Path

import pytest
from graphql import parse, print_ast

from tests.clients.conftest import (
    ARIADNE_CODEGEN,
    NODE_MODULES,
    needs_ariadne_codegen,
    needs_node,
    needs_node_modules,
    run,
)
from tests.conformance.reference_packages import FOLDER

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "explorer/src").rglob("*.graphql"))
RELAY_COMPILER = FOLDER / "node_modules/relay-compiler/cli.js"
CODEGEN = """
export default {
  schema: "schema.graphql",
  documents: "pages/*.graphql",
  generates: {
    "generated/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        strictScalars: true,
        scalars: { BigInt: "number", DateTime: "string", Upload: "File | Blob" },
        useTypeImports: true,
      },
    },
  },
};
"""
TYPES = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": ["node"],
        "skipLibCheck": True,
    },
    "include": ["generated"],
}
ARIADNE = """
[tool.ariadne-codegen]
schema_path = "schema.graphql"
queries_path = "pages"
target_package_name = "pages_api"

[tool.ariadne-codegen.scalars.BigInt]
type = "int"

[tool.ariadne-codegen.scalars.DateTime]
type = "datetime.datetime"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a directory with the schema and the pages."""
    (tmp_path / "schema.graphql").symlink_to(ROOT / "schema.graphql")
    (tmp_path / "pages").mkdir()
    for page in PAGES:
        shutil.copy(page, tmp_path / "pages")
    return tmp_path


def operations() -> list[str]:
    """Return the names of all operations of the pages."""
    texts = "".join(path.read_text() for path in PAGES)
    return re.findall(r"^(?:query|mutation|subscription) (\w+)", texts, re.MULTILINE)


def as_module(page: Path) -> str:
    """Return a page's document as Relay takes it: each definition a template of a JavaScript module."""
    definitions = [print_ast(one) for one in parse(page.read_text()).definitions]
    templates = "".join(f"graphql`\n{definition}\n`,\n" for definition in definitions)
    return f'import {{ graphql }} from "relay-runtime";\nexport default [\n{templates}];\n'


@needs_node
@pytest.mark.skipif(not RELAY_COMPILER.exists(), reason="needs Relay's compiler: make others")
def test_relay_compiles_every_operation(project: Path) -> None:
    sources = project / "src"
    sources.mkdir()
    for page in PAGES:
        (sources / f"{page.stem}.js").write_text(as_module(page))
    # Other tools do not know Relay's @alias, without which it refuses fragments on members of a union.
    without_aliases = {"enforce_fragment_alias_where_ambiguous": {"kind": "disabled"}}
    config = {
        "src": "src",
        "schema": "schema.graphql",
        "language": "javascript",
        "featureFlags": without_aliases,
    }
    (project / "relay.config.json").write_text(json.dumps(config))
    run(["node", str(RELAY_COMPILER)], project)
    compiled = {path.name.removesuffix(".graphql.js") for path in sources.rglob("*.graphql.js")}
    assert operations() and compiled >= set(operations())


@needs_node
@needs_node_modules
def test_graphql_codegen_types_every_operation(project: Path) -> None:
    (project / "node_modules").symlink_to(NODE_MODULES)
    (project / "codegen.mjs").write_text(CODEGEN)
    (project / "tsconfig.json").write_text(json.dumps(TYPES))
    run(["node_modules/.bin/graphql-codegen", "--config", "codegen.mjs"], project)
    run(["node_modules/.bin/tsc"], project)
    types = (project / "generated/graphql.ts").read_text()
    assert [name for name in operations() if f"export const {name}Document =" not in types] == []


@needs_ariadne_codegen
def test_ariadne_codegen_makes_a_method_of_every_operation(project: Path) -> None:
    (project / "pyproject.toml").write_text(ARIADNE)
    run([str(ARIADNE_CODEGEN)], project)
    methods = re.findall(r"    (?:async )?def (\w+)\(", (project / "pages_api/client.py").read_text())
    expected = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in operations()}
    assert expected <= set(methods)
