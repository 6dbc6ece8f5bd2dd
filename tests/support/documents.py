"""Finds the GraphQL documents of the repository."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TABS = ROOT / "graphiql/src/tabs"


def tab_variables(tab: Path) -> dict[str, Any]:
    """Return the variables that a tab begins with, as GraphiQL reads them: JSON with comments."""
    file = tab.with_suffix(".jsonc")
    found: dict[str, Any] = json.loads(re.sub(r"//.*", "", file.read_text())) if file.exists() else {}
    return found


def graphql_blocks(path: Path) -> list[str]:
    """Return the fenced GraphQL documents of a Markdown page."""
    return re.findall(r"^```graphql\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
