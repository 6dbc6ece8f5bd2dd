"""Answers that are the same but for the last digits of their numbers."""

from typing import Any

import pytest


def assert_close(found: Any, expected: Any) -> None:
    """Hold answers against each other; in a batch of another size numbers differ in their last digits."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    else:
        assert found == expected
