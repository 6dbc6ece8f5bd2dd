"""The README stays short; pages name only settings, commands and files that exist, and every setting."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from gql_server.settings import Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = (ROOT / "docs/settings.md").read_text()
ROWS = dict(re.findall(r"^\| `(GQL_SERVER_\w+)` \| ?([^|]*?) \|", SETTINGS, flags=re.MULTILINE))

MAX_LINES = 150
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
NAMES_IN_FILE = re.compile(
    r"((?:`[^`\n]+`(?:, | and )?)+) in `((?:gql_server|models|migrations)/[\w/]+\.py)`"
)
"""Such as: `one` and `another` in `gql_server/jobs/queue.py`."""
NAMED_FILE = re.compile(
    r"`((?:gql_server|models|migrations|tests|graphiql|explorer|docs|requirements)/[\w./-]+\.\w+)`"
)


def as_written(default: Any) -> str:
    """Return a default as it would stand in the environment, between backticks; empty for none."""
    if default in (None, (), ""):
        return ""
    if isinstance(default, tuple):
        default = ",".join(default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def make_targets(page: str) -> set[str]:
    """Return the targets of all make commands that a page names in backticks or shows in a block."""
    shown = "\n".join(SHELL.findall(page))
    return set(re.findall(r"`make ([a-z][\w-]*)", page)) | set(
        re.findall(r"^make ([a-z][\w-]*)", shown, flags=re.MULTILINE)
    )


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_documented_with_its_default(name: str) -> None:
    assert ROWS.get(f"GQL_SERVER_{name.upper()}") == as_written(Settings.model_fields[name].default)


def test_no_other_settings_are_documented() -> None:
    assert {row.removeprefix("GQL_SERVER_").lower() for row in ROWS} == Settings.model_fields.keys()


def test_each_default_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GQL_SERVER_")]:
        monkeypatch.delenv(name)
    expected = Settings()
    for name, default in ROWS.items():
        if default:
            monkeypatch.setenv(name, default.strip("`"))

    assert Settings() == expected


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_make_targets_of_a_page_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, flags=re.MULTILINE))

    assert make_targets(page.read_text()) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]*))?\)", page.read_text()):
        if target.startswith("http"):
            continue
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pictures_of_a_page_are_there_and_are_described(page: Path) -> None:
    text = page.read_text()
    shown = re.findall(r"\b(?:src|srcset)=\"([^\"]*)\"", text)

    assert [name for name in shown if not (page.parent / name).is_file()] == []
    assert re.findall(r"<img (?![^>]* alt=\"[^\"]+\")[^>]*>", text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    to_be_made = set(re.findall(r"\*\*`([^`]+)`\*\*, a new file", text))

    named = set(NAMED_FILE.findall(text)) - to_be_made
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_is_in_a_file_is_there(page: Path) -> None:
    for names, path in NAMES_IN_FILE.findall(page.read_text()):
        for name in re.findall(r"`(\w+)[^`]*`", names):
            assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{name} in {path}"


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text()
    linked = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]*)\)", index)}
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert pages <= linked
