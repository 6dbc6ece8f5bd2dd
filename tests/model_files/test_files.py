"""What a language model's files are now: hashed once for each state, of the Hub's cache by its commit."""

import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from gql_server.artifacts.file_hashes import hash_files, sha256_of
from gql_server.model_files.files import commit_in_cache, identify, identify_by_looks, stamp_of
from gql_server.protocol.sources import LanguageModelSource

COMMIT = "0123456789abcdef" * 2 + "01234567"


def nothing() -> None:
    """No cancellation."""


def hub_source(revision: str | None, tmp_path: Path) -> LanguageModelSource:
    return LanguageModelSource(
        "lm", "HUGGING_FACE", "owner/name", revision, "FLOAT32", str(tmp_path / "copy")
    )


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the directory of a repository in a Hub's cache whose branch main is at a commit."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    directory = tmp_path / "hub" / "models--owner--name"
    (directory / "refs" / "refs" / "pr").mkdir(parents=True)
    (directory / "refs" / "main").write_text(COMMIT)
    return directory


def test_files_that_were_replaced_with_their_size_and_times_are_read_again(tmp_path: Path) -> None:
    file, other = tmp_path / "model.safetensors", tmp_path / "other"
    file.write_bytes(b"one")
    hash_files([file], tmp_path / "cache", nothing)
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    for replace in (os.replace, shutil.copyfile):
        other.write_bytes(b"two" if replace is os.replace else b"six")
        expected = sha256_of(other)
        replace(other, file)
        os.utime(file, ns=times)
        assert hash_files([file], tmp_path / "cache", nothing)[0].sha256 == expected


def test_what_was_hashed_is_known_without_reading_until_it_looks_different(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_text("weights")
    source = LanguageModelSource("lm", "DIRECTORY", str(directory), None, "FLOAT32", str(tmp_path / "copy"))
    assert identify_by_looks(source) is None
    known = identify(source)
    assert known is not None and identify_by_looks(source) == known
    (directory / "model.safetensors").write_text("WEIGHTS")
    assert identify_by_looks(source) is None
    assert identify(source) != known
    shutil.rmtree(directory)
    assert identify(source) is None and identify_by_looks(source) is None and stamp_of(source) == {}


def test_of_a_branch_the_commit_in_the_cache_is_told(hub_cache: Path, tmp_path: Path) -> None:
    assert commit_in_cache(hub_source(None, tmp_path)) == COMMIT
    assert commit_in_cache(hub_source("main", tmp_path)) == COMMIT
    found = identify(hub_source(None, tmp_path))
    assert (
        found is not None
        and found.revision == COMMIT
        and identify_by_looks(hub_source(None, tmp_path)) == found
    )
    (hub_cache / "refs" / "refs" / "pr" / "1").write_text("b" * 40)
    assert commit_in_cache(hub_source("refs/pr/1", tmp_path)) == "b" * 40
    (hub_cache / "refs" / "main").write_text("c" * 40)
    assert stamp_of(hub_source("main", tmp_path)) == {"commit": "c" * 40}


@pytest.mark.parametrize("revision", ["v1", "..", "../blobs", "../../../secret", "main/x"])
def test_what_is_no_branch_in_the_cache_has_no_commit(hub_cache: Path, tmp_path: Path, revision: str) -> None:
    (tmp_path / "secret").write_text("secret")
    assert commit_in_cache(hub_source(revision, tmp_path)) is None
    assert identify(hub_source(revision, tmp_path)) is None


def test_a_commit_stands_for_itself(hub_cache: Path, tmp_path: Path) -> None:
    assert commit_in_cache(hub_source("d" * 40, tmp_path)) == "d" * 40
