"""How far a job is: what its row says after the events of a worker."""

from gql_server.jobs import progress
from gql_server.protocol.events import Event, Progress, Stage
from models import Job
from models.enums import ProgressUnit


def new_job() -> Job:
    job = Job(completed=0, fraction=0.0)
    progress.begin_anew(job)
    return job


def test_the_fraction_never_falls_within_an_attempt_and_never_passes_1() -> None:
    job, seen = new_job(), []
    for completed, total in ((50, 100), (60, 200), (90, 100), (300, 200)):
        progress.take_in(job, Progress(completed, total))
        seen.append((job.completed, job.total, job.fraction))
    assert seen == [(50, 100, 0.5), (60, 200, 0.5), (90, 100, 0.9), (300, 200, 1.0)]
    progress.begin_anew(job)
    assert (job.fraction, job.completed, job.total) == (0.0, 0, None)


def test_the_remaining_time_is_what_is_left_at_the_present_rate_and_never_below_0() -> None:
    job = new_job()
    progress.take_in(job, Progress(25, 100, rate_per_second=5.0))
    assert job.eta_seconds == 15.0
    progress.take_in(job, Progress(110, 100, rate_per_second=5.0))
    assert job.eta_seconds == 0.0
    progress.take_in(job, Stage("similar neurons", 1, 2))
    assert progress.payload(job)["stage"] == {"name": "similar neurons", "completed": 1, "total": 2}
    assert progress.payload(job)["eta_seconds"] is None, "a stage does not say how long it takes"
    progress.take_in(job, Progress(110, 100))
    assert progress.payload(job)["stage"] is None


def test_without_a_total_the_fraction_waits_for_the_end() -> None:
    job = new_job()
    progress.take_in(job, Progress(70, None))
    assert (job.completed, job.fraction) == (70, 0.0)
    progress.complete(job)
    assert (job.completed, job.fraction, job.eta_seconds) == (70, 1.0, 0.0)


def test_of_waiting_events_the_newest_of_each_kind_stay_in_their_order() -> None:
    events: list[Event] = [Progress(1, 9), Stage("a", 0, 1), Progress(2, 9), Stage("a", 1, 1), Progress(3, 9)]
    assert progress.newest(events) == [Stage("a", 1, 1), Progress(3, 9)]


def test_a_job_that_is_done_has_done_all_that_it_counted_and_its_event_says_so() -> None:
    job = new_job()
    progress.take_in(job, Progress(90, 100, rate_per_second=4.0))
    progress.complete(job)
    job.unit = ProgressUnit.TEXTS
    assert progress.payload(job) == {
        "fraction": 1.0,
        "completed": 100,
        "total": 100,
        "unit": "TEXTS",
        "rate_per_second": 4.0,
        "eta_seconds": 0.0,
        "stage": None,
    }


def test_counted_progress_may_say_what_it_counts() -> None:
    job = new_job()
    progress.take_in(job, Progress(1, 4, stage="computing similar neurons"))
    assert (job.fraction, job.stage) == (0.25, "computing similar neurons")
    assert progress.payload(job)["stage"]["total"] is None
    progress.take_in(job, Progress(2, 4))
    assert progress.payload(job)["stage"] is None
