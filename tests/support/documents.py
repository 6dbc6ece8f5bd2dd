"""Finds the GraphQL documents of the repository."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABS = ROOT / "frontend/src/tabs"


def graphql_blocks(path: Path) -> list[str]:
    """Return the fenced GraphQL documents of a Markdown page."""
    return re.findall(r"^```graphql\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
