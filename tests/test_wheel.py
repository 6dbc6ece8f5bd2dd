"""The wheel, built as ``python -m build`` builds it: from the source distribution alone."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gql_server", "migrations", "models")
PAGES = {
    "graphiql/index.html",
    "graphiql/graphiql-B3X29AZQ.js",
    "graphiql/graphiql-B3X29AZQ.js.gz",
    "explorer/index.html",
    "explorer/assets/index-a_9bc0De.css",
    "explorer/assets/index-a_9bc0De.css.gz",
}


def built(hook: str, source: Path, target: Path) -> Path:
    """Call a hook of the build backend, as pip and build do, and return the file that it makes."""
    code = f"import setuptools.build_meta as b, sys; print(b.{hook}(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(target)]
    output = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True).stdout
    return target / output.splitlines()[-1]


def wheel_names(source: Path, target: Path) -> set[str]:
    """Build the source distribution, from that alone the wheel, and return the names in it."""
    with tarfile.open(built("build_sdist", source, target)) as archive:
        archive.extractall(target, filter="data")
    (unpacked,) = [path for path in target.iterdir() if path.is_dir()]
    with zipfile.ZipFile(built("build_wheel", unpacked, target)) as wheel:
        return set(wheel.namelist())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give what the distribution is made of, without the pages."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    return source


def files_of(source: Path) -> set[str]:
    """Return the files of the packages that a program reads or imports."""
    found = {path.relative_to(source) for package in PACKAGES for path in (source / package).rglob("*")}
    return {path.as_posix() for path in found if (source / path).is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("pages", [PAGES, set()], ids=["with pages", "without"])
def test_a_wheel_carries_all_of_the_packages_and_the_pages_that_are_built(
    source: Path, tmp_path: Path, pages: set[str]
) -> None:
    for page in pages:
        file = source / "gql_server/api/static" / page
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page)
    expected = files_of(source)
    target = tmp_path / "dist"
    target.mkdir()

    names = wheel_names(source, target)

    assert {name for name in names if not name.startswith("gql_server-")} == expected
    assert {f"gql_server/api/static/{page}" for page in pages} <= expected
