"""The server finds what may be language models under its model directories, and says so."""

from pathlib import Path

import pytest

from gql_server.model_files import places as module
from gql_server.model_files.places import places


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_directories_with_a_configuration_and_gguf_files_are_found_where_models_lie(tmp_path: Path) -> None:
    root = tmp_path / "models"
    found = [
        touch(root / "config.json").parent,
        touch(root / "tiny.gguf"),
        touch(root / "owner/name/config.json").parent,
        touch(root / "owner/other.gguf"),
    ]
    touch(root / "notes.txt")
    touch(root / "a/b/c/config.json")
    touch(root / "named.gguf/notes.txt")
    touch(tmp_path / "elsewhere/config.json")
    (root / "link").symlink_to(tmp_path / "elsewhere")

    assert places([root, tmp_path / "missing", root]) == sorted(map(str, found))


def test_a_huge_directory_is_not_searched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        touch(tmp_path / f"{name}.gguf")
    monkeypatch.setattr(module, "MAX_LOOKED_AT", 3)
    assert [Path(path).name for path in places([tmp_path])] == ["a.gguf", "b.gguf", "c.gguf"]
    monkeypatch.setattr(module, "MAX_FOUND", 2)
    assert [Path(path).name for path in places([tmp_path])] == ["a.gguf", "b.gguf"]
