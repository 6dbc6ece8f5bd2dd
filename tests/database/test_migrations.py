"""The migrations make the tables that models/ describes."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

import migrations
from gql_server.database.migrate import DatabaseTooNew, alembic_config, current_revision, migrate
from migrations import new
from models import (
    ActivationRun,
    Base,
    Concept,
    ConceptRevision,
    Job,
    JobEvent,
    LanguageModel,
    NeuronIndex,
    Sae,
    SaeEvaluation,
    TrainingPoint,
)
from models.enums import ArtifactStatus, JobStatus


def test_the_migrated_tables_equal_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite3"
    migrate(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_name": migrations.is_in_models}
        )
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_newest_revision_is_the_one_that_the_fast_path_knows(tmp_path: Path) -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == migrations.HEAD
    migrate(tmp_path / "database.sqlite3")
    assert current_revision(tmp_path / "database.sqlite3") == migrations.HEAD


def test_a_new_migration_of_unchanged_tables_does_nothing_and_is_the_next_head(tmp_path: Path) -> None:
    directory = shutil.copytree(Path(migrations.__file__).parent, tmp_path / "migrations")
    number = f"{int(migrations.HEAD) + 1:04}"

    path = new.write("notes of runs", directory)

    assert path.name == f"{number}_notes_of_runs.py"
    assert path.read_text().startswith('"""Notes of runs."""')
    assert "    pass\n" in path.read_text() and "op.add_column" not in path.read_text()
    assert f'HEAD = "{number}"' in (directory / "__init__.py").read_text()


def test_a_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match="9999"):
        migrate(path)
    assert path.read_bytes() == before


FIRST_ROWS = Path(__file__).with_name("version_0001.sql")


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    """Give a database as the first version of the program left it, with a row in each table."""
    path = tmp_path / "database.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_ROWS.read_text())
    return path


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        # The contents of a table of FTS5 cannot be listed.
        tables = [table for table in tables if migrations.is_in_models(table, "table", None)]
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def test_a_database_of_the_first_version_migrates_with_its_rows(first_version: Path) -> None:
    before = rows(first_version)
    assert all(before.values())
    migrate(first_version)
    after = rows(first_version)
    untouched = before.keys() - {"alembic_version", "jobs", "job_events"}
    for table in untouched:
        (old,), (new,) = before[table], after[table]
        assert new[: len(old)] == old and set(new[len(old) :]) <= {None, 0, "TRUNCATE"}
    engine = create_engine(f"sqlite:///{first_version}")
    with Session(engine) as session:
        job = session.get_one(Job, "job_1")
        assert (job.status, job.removed_sequence, job.resumptions) == (JobStatus.SUCCEEDED, 0, 0)
        assert job.request == {"seed": 0} and job.completed == 10
        events = list(session.scalars(select(JobEvent).order_by(JobEvent.sequence)))
        assert [event.payload.get("attempt") for event in events] == [1, 1, 1, 2, None, 2]
        assert events[2].payload == {"status": "FAILED", "error": "No \u00fcse.", "attempt": 1}
        assert events[4].payload == {"message": "QUEUED"}
        sae = session.get_one(Sae, "sae_1")
        assert (sae.activation_run_id, sae.exports) == ("run_1", None)
        assert session.get_one(NeuronIndex, "index_1").status == ArtifactStatus.READY
        assert session.get_one(ActivationRun, "run_1").provenance is None
        assert session.get_one(Sae, "sae_1").provenance is None
        assert session.get_one(NeuronIndex, "index_1").provenance is None
        assert session.get_one(TrainingPoint, ("sae_1", 10)).explained_variance is None
        assert session.get_one(Concept, "concept_1").name == "dogs"
        assert session.get_one(LanguageModel, "lm_1").layers == [{"name": "h"}]
    engine.dispose()


def test_an_older_database_is_copied_before_it_is_migrated(first_version: Path) -> None:
    before = rows(first_version)
    migrate(first_version)
    (copy,) = first_version.parent.glob("*.backup")
    assert current_revision(copy) == "0001"
    assert rows(copy) == before
    migrate(first_version)
    assert len(list(first_version.parent.glob("*.backup"))) == 1


def test_a_migration_that_breaks_off_leaves_the_database_as_it_was(
    first_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(first_version)

    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("alembic.op.execute", break_off)  # What comes after the tables were changed.
        with pytest.raises(KeyboardInterrupt):
            migrate(first_version)
    assert rows(first_version) == before
    assert current_revision(first_version) == "0001"
    migrate(first_version)
    assert current_revision(first_version) == migrations.HEAD


def test_a_migration_that_would_orphan_rows_is_undone(first_version: Path) -> None:
    with closing(sqlite3.connect(first_version)) as connection:
        connection.execute("DELETE FROM saes")
        connection.commit()
    with pytest.raises(RuntimeError, match="refer to none"):
        migrate(first_version)
    assert current_revision(first_version) == "0001"


def test_the_newest_evaluation_and_the_names_of_neurons_come_into_0013(first_version: Path) -> None:
    result = '{"evaluated_at": "2026-11-23T12:00:00.5+02:00", "mse": 0.25}'
    with closing(sqlite3.connect(first_version)) as connection:
        connection.execute("UPDATE saes SET evaluation = ?", (result,))
        connection.commit()
    migrate(first_version)
    engine = create_engine(f"sqlite:///{first_version}")
    with Session(engine) as session:
        (kept,) = session.scalars(select(SaeEvaluation))
        assert (kept.sae_id, kept.result) == ("sae_1", session.get_one(Sae, "sae_1").evaluation)
        assert kept.created_at == datetime(2026, 11, 23, 10, 0, 0, 500_000, UTC)
        assert session.get_one(Concept, "concept_1").version == 1
        assert list(session.scalars(select(ConceptRevision))) == []
        assert session.get_one(ActivationRun, "run_1").dataset_id is None
        assert session.get_one(Sae, "sae_1").output_layer is None
    engine.dispose()
