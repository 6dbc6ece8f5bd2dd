"""Which texts go through a language model together."""

import pytest
from hypothesis import example, given, strategies as st

from gql_server.artifacts.manifest import PlannedBatch
from gql_server.compute.capturing.batch_sizes import MOST_PADDED, ForwardPass, Part, joined, passes


def plan(*lengths: list[int]) -> list[PlannedBatch]:
    """Number the rows through."""
    batches, row = [], 0
    for of_batch in lengths:
        batches.append(PlannedBatch(list(range(row, row + len(of_batch))), of_batch))
        row += len(of_batch)
    return batches


def test_short_batches_go_through_together_up_to_the_limit() -> None:
    batches = plan([9, 9], [9, 8], [9, 7], [8, 8], [8, 8])
    assert list(joined(batches, 54)) == [[0, 1, 2], [3, 4]]
    (one,) = passes(batches, [0, 1, 2], 54)
    assert one == ForwardPass(
        rows=[0, 1, 2, 3, 4, 5],
        lengths=[9, 9, 9, 8, 9, 7],
        parts=[
            Part(0, slice(0, 2), slice(0, 2)),
            Part(1, slice(0, 2), slice(2, 4)),
            Part(2, slice(0, 2), slice(4, 6)),
        ],
    )
    assert one.width == 9


def test_batches_of_unlike_length_are_not_joined() -> None:
    assert list(joined(plan([10, 10], [2, 2]), 1000)) == [[0], [1]]


def test_a_batch_of_too_many_tokens_is_cut_into_even_passes() -> None:
    batches = plan([10, 10, 9, 9, 8, 8, 8])
    found = list(passes(batches, [0], 30))
    assert [one.rows for one in found] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [one.width for one in found] == [10, 9, 8]
    assert [one.parts for one in found] == [
        [Part(0, slice(0, 2), slice(0, 2))],
        [Part(0, slice(2, 4), slice(0, 2))],
        [Part(0, slice(4, 7), slice(0, 3))],
    ]


@pytest.mark.parametrize("limit", [1, 9])
def test_a_text_of_too_many_tokens_goes_alone(limit: int) -> None:
    assert [one.rows for one in passes(plan([10, 10]), [0], limit)] == [[0], [1]]


@example(lengths=[5, 5, 1], batch_size=3, limit=8)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 300))
def test_every_text_goes_once_and_no_pass_has_too_many_tokens(
    lengths: list[int], batch_size: int, limit: int
) -> None:
    lengths = sorted(lengths, reverse=True)
    batches = plan(*(lengths[n : n + batch_size] for n in range(0, len(lengths), batch_size)))
    groups = list(joined(batches, limit))
    assert [index for group in groups for index in group] == list(range(len(batches)))
    seen = []
    for group in groups:
        made = list(passes(batches, group, limit))
        for one in made:
            seen += one.rows
            assert one.lengths == [lengths[row] for row in one.rows]
            assert len(one.rows) * one.width <= limit or len(one.rows) == 1
            for part in one.parts:
                assert one.rows[part.places] == batches[part.batch].rows[part.texts]
        if len(group) > 1:
            alone = sum(len(batches[index].rows) * max(batches[index].lengths) for index in group)
            assert len(made) == 1 and len(made[0].rows) * made[0].width <= MOST_PADDED * alone
    assert seen == list(range(len(lengths)))
