"""The benchmarks of the server itself, each with next to nothing to do."""

import re
from pathlib import Path

import pytest

from benchmarks import bench, explorer_budgets, latency
from benchmarks.rows import Row
from tests.support.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


def check_goals(rows: list[Row]) -> None:
    """Each line has what was measured, and says whether its goal was reached if it has one."""
    for row in rows:
        assert row.what and row.ours and re.search(r"\d", row.measured)
        assert (row.reached is None) == (row.goal == "")
        assert bool(row.against) == bool(row.theirs)


def test_subscribers_get_every_event(model: str) -> None:
    options = ["--model", model, "--subscribers", "5", "--texts", "200"]
    delay, memory = bench.run("subscribers", options)
    check_goals([delay, memory])
    p50, p99, slowest = map(int, re.findall(r"(\d+) ms", delay.ours))
    assert 0 <= p50 <= p99 <= slowest
    events = int(re.findall(r"of (\d+) events", delay.measured)[0])
    assert events >= 3, "queued, running, succeeded"


def test_queries_are_timed_during_each_kind_of_job(model: str) -> None:
    sizes = ["--block", "1", "--texts", "40", "--latents", "16", "--k", "4", "--epochs", "1"]
    rows = bench.run("latency", ["--model", model, *sizes, "--queries", "20"])
    check_goals(rows)
    assert [row.what.split()[-1] for row in rows] == list(latency.BUSY)
    assert [row.goal for row in rows] == ["", "≤ 2 ×", ""]


def test_each_job_is_compared_with_the_idle_times_around_it() -> None:
    times = latency.Times([[1.0], [2.0], [3.0], [4.0]], {"capture": [9.0], "training": [9.0], "index": [9.0]})
    assert [times.around(name) for name in latency.BUSY] == [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]


def test_the_p95_of_each_part_of_a_phase_is_told() -> None:
    parts = [[float(part)] * 10 for part in (3, 1, 4, 5, 2)]
    spread = latency.spread_of_p95([time for part in parts for time in part])
    assert (spread.lowest, spread.median, spread.highest) == (1, 3, 5)


def test_pages_of_neurons_are_timed_by_every_order_and_filter() -> None:
    rows = bench.run("neurons", ["--neurons", "400", "--pages", "2"])
    check_goals(rows)
    assert [row.what.split(", ")[0] for row in rows] == [
        *["a page of 100 of 400 neurons"] * 2,
        "a page of 100 at any place",
        "a search",
        "all of a neuron",
    ]


def test_the_queries_of_pages_are_measured_with_their_sizes() -> None:
    rows = bench.run("page_queries", ["--neurons", "400"])
    assert len(rows) == 8
    for row in rows:
        plain, packed = (float(part.split()[0].replace(",", "")) for part in row.measured.split(" kB, "))
        assert 0 < packed < plain


@pytest.mark.browser
@pytest.mark.skipif(explorer_budgets.missing() is not None, reason=f"needs {explorer_budgets.missing()}")
def test_the_explorers_budgets_are_measured_in_a_browser(tiny_model_dir: Path) -> None:
    sizes = ["--neurons", "400", "--points", "300", "--rounds", "1"]
    rows = bench.run("explorer_budgets", [*sizes, "--model", str(tiny_model_dir), "--block", "0"])
    check_goals(rows)
    assert all(row.reached is not None for row in rows)
    what = " ".join(row.what for row in rows)
    for budget in (
        "first route",
        "first contentful paint",
        "another page",
        "300 points",
        "heap",
        "map",
        "Generate",
    ):
        assert budget in what


def test_a_database_is_filled_asked_and_tidied() -> None:
    sizes = ["--jobs", "400", "--events", "4000", "--long-log", "600"]
    rows = bench.run("database", [*sizes, "--times", "3"])
    check_goals(rows)
    assert len({row.what for row in rows}) == len(rows)
    (log,) = [row.what for row in rows if "jobProgress" in row.what]
    (retention,) = [row.what for row in rows if "removing the logs" in row.what]
    assert "600 events" in log
    assert re.search(r"logs of 39 of them, \d+ events", retention)


def test_every_benchmark_of_the_table_can_be_run() -> None:
    for name in bench.BENCHMARKS:
        assert (Path(bench.__file__).parent / f"{name}.py").is_file()
