from itertools import product

from gql_server.artifacts.tokenized_texts import TokenizedText

TEXT = "one 😀 two"
OFFSETS = [(0, 0), (0, 3), (4, 5), (4, 5), (4, 5), (5, 9), (0, 0)]
"""A special token, a word, a character of three tokens, a word with its space, a special token."""
PIECES = ["", "one", " 😀", "", "", " two", ""]
OWN = ["", "one", " 😀", "😀", "😀", " two", ""]
NAMES = {0: "<bos>", 6: "<eos>"}


def text() -> TokenizedText:
    return TokenizedText(TEXT, list(range(7)), OFFSETS, NAMES)


def test_every_stretch_is_the_same_whatever_was_quoted_before() -> None:
    stretches = [(start, length) for start in range(7) for length in range(9)]
    for before, (start, length) in product([(0, 1), (3, 2), (0, 9)], stretches):
        quoted = text()
        quoted.stretch(*before)
        expected = [OWN[start], *PIECES[start + 1 : start + length]] if length else []
        assert quoted.stretch(start, length) == "".join(expected)
        named = [NAMES.get(start + place, piece) for place, piece in enumerate(expected)]
        assert quoted.tokens(start, length) == named


def test_a_token_of_a_character_is_the_whole_of_it_wherever_the_text_was_quoted() -> None:
    assert [text().token(index) for index in range(7)] == OWN
    quoted = text()
    assert [quoted.token(index) for index in reversed(range(7))] == OWN[::-1]


def test_what_stands_around_a_stretch_is_the_rest_of_a_longer_one() -> None:
    for start, length in product(range(7), range(1, 8)):
        stop = min(start + length, 7)
        for before, after in product(range(9), range(9)):
            quoted, first = text(), max(0, start - before)
            parts = (quoted.before(start, before), quoted.stretch(start, length), quoted.after(stop, after))
            assert "".join(parts) == text().stretch(first, stop + after - first)
