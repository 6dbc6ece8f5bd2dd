"""The short form: a few kills on the tiny model."""

from pathlib import Path

import pytest

from tests.faults.harness import Plan, run

PLAN = Plan(kills=4, seed=3, model="tiny", minutes=15, brief=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_killed_workers_and_servers_lose_repeat_and_leave_nothing(tmp_path: Path) -> None:
    tally = await run(PLAN, tmp_path)
    assert not tally.failures, f"seed {PLAN.seed}: {tally.failures}"
    assert tally.kills.total() >= PLAN.kills
