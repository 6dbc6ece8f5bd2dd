"""Text that does nothing to a log or a terminal."""

import pytest

from gql_server.telemetry.plain_text import is_plain, plain


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\t", "\0", "\x1b", "\x07", "\x9b", "\u2028", "\u202e", "\u2066", "\u200f"]
)
def test_what_acts_is_no_plain_text(character: str) -> None:
    assert not is_plain(f"a{character}b")
    assert plain(f"a{character}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "text", ["", "naïve", "日本語", "עברית", "العربية", "👩\u200d👩\u200d👧", "a\u0301", "\u00a0"]
)
def test_what_people_write_is_plain(text: str) -> None:
    assert is_plain(text)
    assert plain(text) == text
