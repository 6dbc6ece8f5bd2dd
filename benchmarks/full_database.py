"""A database as years of use leave it behind: many jobs that have ended, with their logs; all made up."""

import json
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert
from ulid import ULID

from gql_server import ids
from gql_server.database.migrate import migrate
from models import Job, LanguageModel
from models.base import now
from models.enums import FloatType, JobKind, JobStatus, LanguageModelSourceKind, ProgressUnit

DAYS = 100
"""The jobs ended evenly over so many days."""
ENDS = ((90, JobStatus.SUCCEEDED), (6, JobStatus.FAILED), (4, JobStatus.CANCELED))
KINDS = (JobKind.CAPTURE_ACTIVATIONS, JobKind.TRAIN_SAE, JobKind.INDEX_NEURONS)
"""Of nearly all; one in a thousand evaluates."""
RARE_STATUS, RARE_KIND = JobStatus.INTERRUPTED, JobKind.EVALUATE_SAE
ONE_IN = 1000
CACHE_KIBIBYTES = 256 * 1024

PROGRESS = {
    "fraction": 0.25,
    "completed": 250,
    "total": 1000,
    "unit": "TEXTS",
    "rate_per_second": 12.5,
    "eta_seconds": 60.0,
}
EVENTS = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :most)
INSERT INTO job_events (job_id, sequence, at, type, payload)
SELECT jobs.id, n, jobs.started_at,
  CASE WHEN n = jobs.last_sequence THEN 'STATUS' WHEN n % 2 THEN 'PROGRESS' ELSE 'LOG' END,
  CASE WHEN n = jobs.last_sequence THEN json_object('status', jobs.status, 'error', jobs.error, 'attempt', 1)
    WHEN n % 2 THEN :progress ELSE :message END
FROM jobs CROSS JOIN numbers WHERE jobs.id = :job OR (:job IS NULL AND jobs.last_sequence = :most)
"""


@dataclass(frozen=True)
class FullDatabase:
    """What there is in it."""

    jobs: list[str]
    """From the oldest to the newest."""
    events: int
    long_log: str
    """The newest job but one, whose log is ``long_events`` long."""
    long_events: int
    language_models: list[str]
    """None of them can be loaded."""


def make(path: Path, n_jobs: int, n_events: int, n_models: int, long_events: int) -> FullDatabase:
    """Make a database at ``path``: ``n_events`` in all, spread evenly but for one long log."""
    migrate(path)
    each = max(1, round((n_events - long_events) / (n_jobs - 1)))
    jobs = _jobs(n_jobs, each)
    jobs[-2]["last_sequence"] = long_events
    models = [_language_model(place) for place in range(n_models)]
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(insert(LanguageModel), models)
        connection.execute(insert(Job), jobs)
    engine.dispose()
    written = _write_events(path, each, jobs[-2]["id"], long_events)
    names = [job["id"] for job in jobs]
    return FullDatabase(names, written, names[-2], long_events, [model["id"] for model in models])


def _write_events(path: Path, each: int, long_log: str, long_events: int) -> int:
    """Write the logs in one transaction, without a journal: who is interrupted begins anew."""
    given = {"progress": json.dumps(PROGRESS), "message": json.dumps({"message": "Batch 17 is written."})}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
        with connection:
            connection.execute(EVENTS, given | {"most": each, "job": None})
            if each != long_events:
                connection.execute(EVENTS, given | {"most": long_events, "job": long_log})
        connection.execute("PRAGMA journal_mode=WAL")
        return connection.total_changes


def _jobs(count: int, each: int) -> list[dict[str, Any]]:
    chance = random.Random(0)
    newest, apart = now(), timedelta(days=DAYS) / count
    return [_job(chance, newest - place * apart, place, each) for place in range(count - 1, -1, -1)]


def _job(chance: random.Random, finished: Any, place: int, events: int) -> dict[str, Any]:
    (status,) = chance.choices([status for _, status in ENDS], [share for share, _ in ENDS])
    kind = KINDS[place % len(KINDS)]
    if place % ONE_IN == ONE_IN // 2:
        status, kind = RARE_STATUS, RARE_KIND
    return {
        "id": f"{ids.JOB}_{ULID.from_datetime(finished)}",
        "kind": kind,
        "status": status,
        "lane": "jobs",
        "artifact_id": f"{ids.SAE}_{ULID.from_datetime(finished)}",
        "result_id": f"{ids.SAE}_{ULID.from_datetime(finished)}",
        "request": {"seed": place, "texts_kept": False},
        "request_hash": "0" * 64,
        "attempt": 1,
        "fraction": 1.0,
        "completed": 1000,
        "total": 1000,
        "unit": ProgressUnit.TEXTS,
        "error": None,
        "last_sequence": events,
        "revision": 10**6 - place,
        "created_at": finished - timedelta(seconds=90),
        "queued_at": finished - timedelta(seconds=90),
        "started_at": finished - timedelta(seconds=60),
        "finished_at": finished,
    }


def _language_model(place: int) -> dict[str, Any]:
    return {
        "id": ids.new(ids.LANGUAGE_MODEL),
        "name": f"model {place}",
        "source_kind": LanguageModelSourceKind.DIRECTORY,
        "source": f"/nowhere/{place}",
        "dtype": FloatType.FLOAT32,
        "created_at": now(),
    }
