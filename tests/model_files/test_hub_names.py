"""Names on the Hub, none of which may lead anywhere else."""

import subprocess

import pytest

from gql_server.model_files.hub_names import is_part_of_dataset, is_path, is_repository, is_revision

OUT = ["/dev/zero", "../main", "main/../../x", "a/./b", "a//b", "/a", "a/", ".git", "a/.b", "..", "", "a\\b"]


@pytest.mark.parametrize("name", [*OUT, "a b", "a.lock", "x.lock/y", "a.", "a\0b", "a\nb", "~", "a" * 201])
def test_what_is_no_revision(name: str) -> None:
    assert not is_revision(name)
    assert not is_part_of_dataset(name)
    if "\0" not in name and len(name) < 200:
        checked = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)
        assert checked.returncode != 0


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "v1.0",
        "refs/pr/12",
        "refs/convert/parquet",
        "feature/x_y-z",
        "9f8e7d" * 6 + "aaaa",
        "1.2+cu",
        "_a",
    ],
)
def test_what_is_a_revision(name: str) -> None:
    assert is_revision(name)
    checked = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize("name", [*OUT, "a/b/c", "a/..", "a/.b", "..a/b", "a..b/c", "-a/b"])
def test_what_is_no_repository(name: str) -> None:
    assert not is_repository(name)


@pytest.mark.parametrize("name", ["gpt2", "HuggingFaceTB/SmolLM2-135M", "a/b.c_d"])
def test_what_is_a_repository(name: str) -> None:
    assert is_repository(name)


@pytest.mark.parametrize(
    "name", ["/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", ".", "a\0b", "a\nb", "a\\b", "a" * 501]
)
def test_what_is_no_path_in_a_repository(name: str) -> None:
    assert not is_path(name)


@pytest.mark.parametrize("name", ["", "params.npz", "layer_1/width_16k/average_l0_7", "a b/.hidden", "ä..b"])
def test_what_is_a_path_in_a_repository(name: str) -> None:
    assert is_path(name)
