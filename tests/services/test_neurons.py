"""Which neurons come first."""

import numpy as np
from hypothesis import given, settings, strategies as st

from gql_server.services.neuron_selection import _smallest

RANKS = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 1.5]), max_size=60)


@settings(max_examples=200, deadline=None)
@given(ranks=RANKS, count=st.integers(1, 70))
def test_the_first_of_a_page_are_those_of_a_stable_sort(ranks: list[float], count: int) -> None:
    found = _smallest(np.array(ranks), count)
    assert found.tolist() == np.argsort(np.array(ranks), kind="stable")[:count].tolist()
