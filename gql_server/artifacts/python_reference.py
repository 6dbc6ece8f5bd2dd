"""The built-in dataset: the prose of the Python reference, as it comes with Python itself."""

import re
from pydoc_data.topics import topics

MINIMUM_CHARACTERS = 80
MINIMUM_WORD_SHARE = 0.55
"""Plain words among what spaces separate; code and lists of names have fewer."""

_BULLET = re.compile(r"^(?:[*+-]|\d+\.|\[\d+\])\s+")
_NOT_PROSE = re.compile(r"::=|>>>|---|===|\S   +\S")
_SENTENCE = re.compile(r"^[A-Z\"“(*].*[.:!?)”\"]$", re.DOTALL)
_WORD = re.compile(r"(?<!\S)[A-Za-z’'-]+[,.;:]?(?!\S)")


def python_reference() -> list[str]:
    """Return the paragraphs of prose, in the order of the topics' names; no two the same.

    The texts depend on the version of Python; with one version they are always the same.
    """
    found: dict[str, None] = {}
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            paragraph = _joined(block)
            if not _NOT_PROSE.search(block) and _is_prose(paragraph):
                found[paragraph] = None
    return list(found)


def _joined(block: str) -> str:
    """Put a block's wrapped lines together, without a list's mark; a word cut at its hyphen becomes whole."""
    return re.sub(r"(?<=\w-) (?=[a-z])", "", _BULLET.sub("", " ".join(block.split())))


def _is_prose(paragraph: str) -> bool:
    """Tell a paragraph from a heading, a list of names or code: sentences, mostly of plain words."""
    if len(paragraph) < MINIMUM_CHARACTERS or not _SENTENCE.match(paragraph):
        return False
    return len(_WORD.findall(paragraph)) >= MINIMUM_WORD_SHARE * len(paragraph.split())
