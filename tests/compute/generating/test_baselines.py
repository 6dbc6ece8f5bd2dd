"""How long baselines are kept."""

import gc
from dataclasses import replace
from typing import Any, cast

import msgspec
from torch import nn

from gql_server.compute.generating.baselines import BaselineKey, Baselines
from gql_server.protocol.events import OutputFinished

from mi_crow.language_model.language_model import LanguageModel


class Loaded:
    """A language model, as far as it matters here."""

    def __init__(self) -> None:
        self.model = nn.Identity()


LM = cast("LanguageModel", Loaded())
KEY = BaselineKey("lm_a", "a", (1, 2), 5, (), None, (), 0, None)


def output(text: str) -> OutputFinished:
    return OutputFinished(0, "a", "BASELINE", text, [], "LENGTH", [], 3.0)


def key(number: int) -> BaselineKey:
    return replace(KEY, max_new_tokens=number)


def kept(baselines: Baselines, numbers: Any) -> list[int]:
    return [number for number in numbers if baselines.get(LM, None, key(number)) is not None]


def test_those_used_longest_ago_make_room() -> None:
    n_bytes = len(msgspec.msgpack.encode(output("x" * 1_000)))
    baselines = Baselines(max_bytes=4 * n_bytes)
    for number in range(4):
        baselines.keep(LM, None, key(number), output("x" * 1_000))
    assert baselines.get(LM, None, key(0)) == output("x" * 1_000)
    baselines.keep(LM, None, key(4), output("x" * 1_000))
    assert kept(baselines, range(5)) == [0, 2, 3, 4]


def test_one_that_is_too_large_is_not_kept_and_leaves_the_others() -> None:
    baselines = Baselines(max_bytes=1_000)
    baselines.keep(LM, None, key(9), output("y"))
    baselines.keep(LM, None, KEY, output("x" * 2_000))
    assert baselines.get(LM, None, KEY) is None


def test_one_that_is_made_again_counts_once() -> None:
    baselines = Baselines(max_bytes=2_500)
    baselines.keep(LM, None, key(0), output("x" * 1_000))
    for _ in range(5):
        baselines.keep(LM, None, key(1), output("y" * 1_000))
    assert kept(baselines, range(2)) == [0, 1]


def test_it_goes_with_the_language_model() -> None:
    baselines, other = Baselines(), Loaded()
    baselines.keep(cast("LanguageModel", other), None, KEY, output("of the other"))
    assert baselines.get(LM, None, KEY) is None
    baselines.keep(cast("LanguageModel", other), None, KEY, output("of the other"))
    del other
    gc.collect()
    assert baselines.get(cast("LanguageModel", Loaded()), None, KEY) is None
