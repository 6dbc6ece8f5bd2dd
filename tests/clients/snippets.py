"""The files that docs/clients.md tells its readers to write."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text()


def blocks() -> list[tuple[str | None, str]]:
    """Return each fenced block with the file's name in the line before it."""
    blocks = re.findall(r"^([^\n]*)\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names = (re.search(r"`([\w-]+\.\w+)`.*:$", line) for line, _ in blocks)
    return [(name and name[1], block) for name, (_, block) in zip(names, blocks, strict=True)]


def files() -> dict[str, str]:
    """Return each file's content; what the page shows in parts is put together."""
    found: dict[str, str] = {}
    for name, block in blocks():
        if name is not None:
            found[name] = f"{found[name]}\n\n{block}" if name in found else block
    return found
