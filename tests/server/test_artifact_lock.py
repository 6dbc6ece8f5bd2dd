"""One server owns an artifact directory, whatever somebody deletes in it."""

from pathlib import Path

import pytest

from gql_server.server.artifact_lock import AlreadyOwned, artifact_lock


def test_a_second_owner_is_refused_by_the_firsts_process(tmp_path: Path) -> None:
    with artifact_lock(tmp_path), pytest.raises(AlreadyOwned, match=r"process \d+"), artifact_lock(tmp_path):
        pass
    with artifact_lock(tmp_path):
        pass


def test_a_deleted_file_does_not_let_another_in(tmp_path: Path) -> None:
    with artifact_lock(tmp_path):
        (tmp_path / ".lock").unlink()
        with pytest.raises(AlreadyOwned), artifact_lock(tmp_path):
            pass


def test_a_server_of_an_earlier_version_which_has_the_file_alone_is_respected(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AlreadyOwned), artifact_lock(tmp_path):
            pass
