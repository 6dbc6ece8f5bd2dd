"""Which neurons are on a page."""

import numpy as np
from hypothesis import given, settings, strategies as st

from gql_server.services.neuron_selection import _in_order

RANKS = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 1.5]), max_size=60)


@settings(max_examples=300, deadline=None)
@given(ranks=RANKS, offset=st.integers(0, 70), count=st.integers(1, 70))
def test_a_page_at_any_place_is_that_of_a_stable_sort(ranks: list[float], offset: int, count: int) -> None:
    found = _in_order(np.array(ranks), offset, count)
    assert found.tolist() == np.argsort(np.array(ranks), kind="stable")[offset:][:count].tolist()
