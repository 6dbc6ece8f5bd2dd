"""The README keeps up with the settings and the commands."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from gql_server.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `(GQL_SERVER_\w+)` \| ?([^|]*?) \|", README, flags=re.MULTILINE))


def as_written(default: Any) -> str:
    """Return a default as it would stand in the environment, between backticks; empty for none."""
    if default in (None, (), ""):
        return ""
    if isinstance(default, tuple):
        default = ",".join(default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_in_the_readme_with_its_default(name: str) -> None:
    assert ROWS.get(f"GQL_SERVER_{name.upper()}") == as_written(Settings.model_fields[name].default)


def test_the_readme_has_no_other_settings() -> None:
    assert {row.removeprefix("GQL_SERVER_").lower() for row in ROWS} == Settings.model_fields.keys()


def test_each_default_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GQL_SERVER_")]:
        monkeypatch.delenv(name)
    expected = Settings()
    for name, default in ROWS.items():
        if default:
            monkeypatch.setenv(name, default.strip("`"))

    assert Settings() == expected


@pytest.mark.parametrize(
    "target",
    sorted(set(re.findall(r"(?:`|^)make (\w+)", README, flags=re.MULTILINE))),
)
def test_a_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
