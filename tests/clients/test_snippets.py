"""docs/clients.md shows nothing that is not tried, and names the versions that are."""

import json
import re

import pytest

from tests.clients.conftest import HERE
from tests.clients.snippets import PAGE, ROOT, blocks

PACKAGES = json.loads((HERE / "package.json").read_text())
PINS = PACKAGES["dependencies"] | PACKAGES["devDependencies"]
REQUIREMENTS = [
    line for path in (ROOT / "requirements").glob("*.txt") for line in path.read_text().splitlines()
]


def test_every_block_is_a_file_that_is_tried() -> None:
    assert all(name for name, _ in blocks())
    assert len(blocks()) == PAGE.count("\n```") / 2


@pytest.mark.parametrize("package", re.findall(r"(?<=[ `])(@?[\w/-]+@\d[\w.]*)", PAGE))
def test_a_javascript_package_has_the_version_that_is_tried(package: str) -> None:
    name, _, version = package.rpartition("@")

    assert PINS[name] == version


@pytest.mark.parametrize(("name", "version"), re.findall(r"([\w-]+)(?:\[[\w,]+\])?==([\d.]+)", PAGE))
def test_a_python_package_has_the_version_that_is_tried(name: str, version: str) -> None:
    assert f"{name}=={version}" in REQUIREMENTS


def test_all_versions_are_exact() -> None:
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in PINS.values())
