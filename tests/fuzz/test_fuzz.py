"""The short form: a few hundred operations, one after the other."""

from pathlib import Path

import pytest

from tests.fuzz.cases import cases
from tests.fuzz.harness import Plan, run

PLAN = Plan(operations=300, seed=1, clients=1)


@pytest.mark.slow
async def test_no_operation_gets_at_the_servers_insides(tmp_path: Path) -> None:
    tally = await run(PLAN, tmp_path)
    assert tally.operations == PLAN.operations
    assert not tally.findings, [
        (
            finding.what,
            f"python -m tests.fuzz --seed {PLAN.seed}",
            finding.case and finding.case.number,
            finding.sent,
        )
        for finding in tally.findings.values()
    ]


def test_the_same_seed_gives_the_same_operations() -> None:
    assert list(map(repr, cases(30, 5))) == list(map(repr, cases(60, 5)))[:30]
