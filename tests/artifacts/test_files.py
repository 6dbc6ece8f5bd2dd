"""Opening files under directories to which others write."""

import os
from pathlib import Path

import pytest

from gql_server.artifacts.files import leads_out, open_inside


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Give models/a/b/file, and a file of the same path outside."""
    for root in ("models", "outside"):
        (tmp_path / root / "a" / "b").mkdir(parents=True)
        (tmp_path / root / "a" / "b" / "file").write_text(root)
    return tmp_path / "models"


def read(path: Path, *roots: Path) -> str:
    with open_inside(path, roots) as file:
        return file.read().decode()


def test_a_file_is_read_through_the_directories_above_it(models: Path) -> None:
    assert read(models / "a" / "b" / "file", models.parent / "none", models) == "models"


@pytest.mark.parametrize("linked", ["a", "a/b", "a/b/file"])
def test_no_link_is_followed_on_the_way(linked: str, models: Path) -> None:
    (models / linked).rename(models / "moved")
    (models / linked).symlink_to(models.parent / "outside" / linked)
    assert (models / "a" / "b" / "file").read_text() == "outside"
    with pytest.raises(OSError, match=r"Not a directory|Too many levels of symbolic links"):
        read(models / "a" / "b" / "file", models)


def test_a_model_directory_within_another_is_reached_from_the_outer_one(models: Path) -> None:
    (models / "a").rename(models / "moved")
    (models / "a").symlink_to(models.parent / "outside" / "a")
    for roots in ((models, models / "a" / "b"), (models / "a" / "b", models)):
        with pytest.raises(OSError, match=r"Not a directory|Too many levels of symbolic links"):
            read(models / "a" / "b" / "file", *roots)


def test_what_lies_under_none_of_the_directories_is_not_there(models: Path) -> None:
    outside = models.parent / "outside" / "a" / "b" / "file"
    for path in (outside, models / ".." / "outside" / "a" / "b" / "file", models, models / "a" / "none"):
        with pytest.raises(FileNotFoundError):
            read(path, models)


def test_only_plain_files_are_opened_and_nothing_stays_open(models: Path) -> None:
    os.mkfifo(models / "pipe")
    before = len(list(Path("/dev/fd").iterdir()))
    for name in ("pipe", "a"):
        with pytest.raises(OSError, match="Not a plain file"):
            read(models / name, models)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_links_in_a_directory_may_lead_to_what_may_be_read_alone(tmp_path: Path) -> None:
    for name in ("blobs", "model", "outside"):
        (tmp_path / "models" / name if name != "outside" else tmp_path / name).mkdir(parents=True)
    root, model = tmp_path / "models", tmp_path / "models" / "model"
    (root / "blobs" / "abc").write_text("weights")
    (model / "config.json").write_text("{}")
    (model / "weights").symlink_to("../blobs/abc")
    (model / "nowhere").symlink_to("../blobs/gone")
    assert leads_out(model, [root]) is None
    assert leads_out(model, [model, root]) is None
    assert leads_out(model, [model]) == "nowhere"
    (model / "tokenizer.json").symlink_to(root / "blobs" / "hop")
    assert leads_out(model, [root]) is None
    (root / "blobs" / "hop").symlink_to(tmp_path / "outside" / "not there yet")
    assert leads_out(model, [root]) == "tokenizer.json"
