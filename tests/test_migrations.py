"""The migrations make the tables that models/ describes."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import migrations
from gql_server.migrate import DatabaseTooNew, alembic_config, current_revision, migrate
from models import Base


def test_the_migrated_tables_equal_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite3"
    migrate(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_newest_revision_is_the_one_that_the_fast_path_knows(tmp_path: Path) -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == migrations.HEAD
    migrate(tmp_path / "database.sqlite3")
    assert current_revision(tmp_path / "database.sqlite3") == migrations.HEAD


def test_a_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    import pytest

    path = tmp_path / "database.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match="9999"):
        migrate(path)
    assert path.read_bytes() == before
