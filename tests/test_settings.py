"""Settings that cannot be right are refused before anything starts."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from gql_server.settings import Settings


@pytest.mark.parametrize("inside", [b"artifacts-\xff", b"\xe9/artifacts"])
def test_an_artifact_path_that_is_no_utf_8_is_refused(tmp_path: Path, inside: bytes) -> None:
    """Python opens such files, but libraries that jobs write with do not."""
    path = Path(os.fsdecode(bytes(tmp_path) + b"/" + inside))
    with pytest.raises(ValidationError, match="no UTF-8"):
        Settings(artifact_dir=path)


def test_so_is_a_relative_one_in_such_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    directory.mkdir()
    monkeypatch.chdir(directory)
    with pytest.raises(ValidationError, match="no UTF-8"):
        Settings(artifact_dir=Path("artifacts"))


def test_one_with_umlauts_and_spaces_is_fine(tmp_path: Path) -> None:
    assert Settings(artifact_dir=tmp_path / "für alle 日本").artifact_dir.name == "für alle 日本"
