"""Values for arguments: those that could be meant, with stand-ins for what is there, and hostile ones."""

import base64
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    is_required_input_field,
)

from tests.fuzz.texts import CONCEPT_FILES, HOSTILE_TEXTS, PLAIN_NAMES, PROMPTS, UPLOADS

NODES = ("lm", "run", "sae", "neuron", "concept", "config", "dataset", "job")
LISTINGS = ("runs", "saes", "jobs", "neurons", "concepts", "configs", "datasets", "loudest")
MANY = 8
"""Stand-ins per kind; a world with fewer gives the same thing for several."""
MOSTLY_FIRST = (0, 0, 0, 0, *range(MANY))


class Word(str):
    """A name as it stands in a document, such as an enum's value: quoted in JSON only."""


@dataclass(frozen=True)
class FilePart:
    """What goes into a part of a multipart request; null stands in its place."""

    name: str
    content: bytes


IDS = {
    "id": {
        "Query.languageModel": "lm", "Query.activationRun": "run", "Query.sae": "sae",
        "Query.concept": "concept", "Query.conceptConfig": "config", "Query.job": "job",
        "Query.dataset": "dataset", "Mutation.deleteDataset": "dataset",
        "Mutation.loadLanguageModel": "lm", "Mutation.unloadLanguageModel": "lm",
        "Mutation.deleteLanguageModel": "lm", "Mutation.deleteActivationRun": "run",
        "Mutation.deleteSae": "sae", "Mutation.cancelJob": "job", "Mutation.retryJob": "job",
        "Mutation.deleteConcept": "concept", "Mutation.deleteConceptConfig": "config",
        "Subscription.jobProgress": "job", "SaveConceptConfigInput": "config",
        "UpdateLanguageModelInput": "lm",
    },
    "saeId": "sae", "saeIds": "sae", "artifactId": "sae",
    "languageModelId": "lm", "activationRunId": "run", "conceptConfigId": "config",
    "datasetId": "dataset",
}  # fmt: skip
"""Kinds of the IDs by argument, and for ``id`` by where it is; anything's where it is not listed."""

GIVEN: dict[object, float] = {
    ("TrainSaeInput", "k"): 0.8, ("GenerateInput", "saeId"): 0.8, ("GenerateInput", "languageModelId"): 0.1,
    ("SaveConceptConfigInput", "id"): 0.2, "idempotencyKey": 0.05, "activationRunId": 0.1, "layer": 0.7,
    "compareToBaseline": 0.1, "expectedVersion": 0.1,
}  # fmt: skip
"""How often a value is given that may be left out, where operations would hardly ever be right otherwise."""

CURSORS = {
    "Query.activationRuns": "runs", "LanguageModel.activationRuns": "runs", "Query.saes": "saes",
    "ActivationRun.saes": "saes", "LanguageModel.saes": "saes", "Query.jobs": "jobs",
    "ActivationRun.jobs": "jobs", "Sae.jobs": "jobs",
    "Sae.neurons": "neurons", "Sae.concepts": "concepts", "Sae.conceptConfigs": "configs",
    "Query.datasets": "datasets",
}  # fmt: skip

NUMBERS: dict[str, Sequence[float]] = {
    "first": (1, 2, 3, 20, 100), "last": (1, 2, 50, 100), "afterStep": (0, 1, 3), "afterSequence": (0, 1, 9),
    "after": (0, 1, 2, 5, 1000), "maxPoints": (1, 2, 200, 10_000),
    "index": (0, 1, 7, 31, 32), "neuronIndex": (0, 1, 2, 5, 31), "k": (1, 2, 4), "latentCount": (8, 16, 32),
    "epochs": (1, 2), "batchSize": (1, 2, 4, 16, 64), "maxLength": (2, 8, 16, 64), "sampleOffset": (0, 1),
    "sampleLimit": (1, 3, 6), "topTextsPerNeuron": (1, 3), "maxNewTokens": (1, 2, 5, 8), "topK": (1, 5, 1000),
    "topLogProbabilities": (0, 1, 3), "topNeurons": (0, 1, 5), "seed": (0, 1, 7),
    "expectedVersion": (1, 2, 3), "version": (1, 2, 3), "offset": (0, 1, 5),
    "score": (0, 0.25, 1), "multiplier": (0, 1, -2, 50), "bias": (0, 1, -3.5, 100),
    "temperature": (0, 0.7, 1, 2),
    "topP": (0.1, 0.9, 1), "repetitionPenalty": (0.5, 1, 1.3), "learningRate": (1e-4, 1e-3, 0.1),
    "l1Lambda": (0, 1e-3, 1), "minFrequency": (0, 0.01, 0.5), "maxFrequency": (0, 0.1, 1),
}  # fmt: skip

TEXTS: dict[str, Sequence[str]] = {
    "layer": [f"<<layer:{n}>>" for n in range(3)], "layers": [f"<<layer:{n}>>" for n in range(3)],
    "prompts": PROMPTS, "prompt": PROMPTS, "texts": PROMPTS, "stop": ["a", "\n", "for"],
    "csv": CONCEPT_FILES["csv"], "json": CONCEPT_FILES["json"],
    "search": ["a", "%", "_", "E", ""], "saeClass": ["TopKSae", "L1Sae"],
    "text": ["a", "#1", "%", "sae_01", "a b"],
    "device": ["cpu"], "path": ["<<file:0>>", "<<file:1>>"], "textField": ["text", "body"],
    "saeLens": ["sae-lens", "sae-lens", "tiny"], "miCrow": ["sae.pt", "broken.gguf"],
    "repository": ["gpt2", "owner/name"], "revision": ["main"], "split": ["train"], "config": ["default"],
    "idempotencyKey": ["first", "second", "third"], "note": ["", "seen twice", "💡"],
}  # fmt: skip

MODELS = ["<<model:0>>"] * 4 + [f"<<model:{n}>>" for n in range(1, 6)]
"""The first is one, the others are broken."""

HOSTILE_NUMBERS: Sequence[Any] = (
    0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**40, 1.0, 1.5, -0.0,
    1e308, -1e308, 1e39, 1e-320, math.inf, math.nan, "1", "", True, None, [1], [], {}, {"a": 1}, Word("ONE"),
)  # fmt: skip
HOSTILE_OTHERS: Sequence[Any] = (
    None,
    0,
    1.5,
    "true",
    "",
    [],
    [[]],
    [None],
    {},
    {"__proto__": {}},
    Word("NOPE"),
    True,
)


class Values:
    """Draws values; ``hostility`` is the share of those that nobody would mean."""

    def __init__(self, dice: random.Random, hostility: float) -> None:
        self._dice = dice
        self._hostility = hostility

    def draw(self, type_: GraphQLInputType, owner: str, name: str) -> Any:
        """Return a value for an argument or an input's field, as JSON has it.

        Args:
            type_: Of the value.
            owner: The field that has the argument, such as Query.sae, or the input.
            name: Of the argument or of the input's field.
        """
        if isinstance(type_, GraphQLNonNull):
            type_ = type_.of_type
        elif self._dice.random() < self._hostility / 3:
            return None
        if isinstance(type_, GraphQLList):
            return self._list(type_.of_type, owner, name)
        if isinstance(type_, GraphQLInputObjectType):
            return self._object(type_)
        if isinstance(type_, GraphQLEnumType):
            names = [Word(value) for value in type_.values]
            return self._one(names, [*names[:1], "nope", Word(names[0].lower()), *HOSTILE_OTHERS])
        return getattr(self, f"_{type_.name.lower()}")(owner, name)

    def is_hostile(self) -> bool:
        """Return whether the next thing is to be something that nobody would mean."""
        return self._dice.random() < self._hostility

    def _one(self, meant: Sequence[Any], hostile: Sequence[Any]) -> Any:
        return self._dice.choice(hostile if self.is_hostile() else meant)

    def _list(self, type_: GraphQLInputType, owner: str, name: str) -> Any:
        length = self._dice.choice((0, 1, 40, 200)) if self.is_hostile() else self._dice.choice((1, 1, 2, 3))
        if self.is_hostile():
            return self._dice.choice((self.draw(type_, owner, name), *HOSTILE_OTHERS))
        return [self.draw(type_, owner, name) for _ in range(length)]

    def _object(self, type_: GraphQLInputObjectType) -> Any:
        if self._dice.random() < self._hostility / 3:
            return self._dice.choice(HOSTILE_OTHERS)
        names = list(type_.fields)
        if type_.is_one_of and not self.is_hostile():
            names = [self._dice.choice([name for name in names if name != "huggingFace"])]
        drawn = {
            name: self._field(type_, name) for name in names if type_.is_one_of or self._is_given(type_, name)
        }
        if self._dice.random() < self._hostility / 5:
            drawn["unheardOf"] = 1
        return drawn

    def _is_given(self, type_: GraphQLInputObjectType, name: str) -> bool:
        if is_required_input_field(type_.fields[name]):
            return self._dice.random() >= self._hostility / 5
        return self._dice.random() < GIVEN.get((type_.name, name), GIVEN.get(name, 0.3))

    def _field(self, type_: GraphQLInputObjectType, name: str) -> Any:
        field = type_.fields[name].type
        bare = field.of_type if isinstance(field, GraphQLNonNull) else field
        # An optional value that is given means something.
        return self.draw(GraphQLNonNull(bare) if not self.is_hostile() else field, type_.name, name)

    def _id(self, owner: str, name: str) -> Any:
        listed: Any = IDS.get(name)
        kind = listed.get(owner) if isinstance(listed, dict) else listed
        # The first of a kind is fit for use; it had better stay.
        number = self._dice.randrange(1, MANY) if "delete" in owner else self._dice.choice(MOSTLY_FIRST)
        own = f"<<{kind or self._dice.choice(NODES)}:{number}>>"
        other = f"<<{self._dice.choice((*NODES, 'gone'))}:{self._dice.randrange(MANY)}>>"
        spoilt = (
            f"{own}0",
            f"{own}\n",
            f" {own}",
            own.replace("<<", "x<<"),
            f"{own}\0",
            f"{own}_1",
            f"{own}_\uff11",
        )
        return self._one([own], [other, other, other, *spoilt, *HOSTILE_NUMBERS, *HOSTILE_TEXTS])

    def _string(self, owner: str, name: str) -> Any:
        if name == "after":
            own, other = self._cursor(CURSORS.get(owner, "saes")), self._cursor(self._dice.choice(LISTINGS))
            return self._one(
                [own], [other, other, own[:-1], f"{own}=", f"x{own}", *forged_cursors(), *HOSTILE_TEXTS]
            )
        fresh = [f"{self._dice.choice(PLAIN_NAMES)[:20]} {self._dice.randrange(10**6)}"] * len(PLAIN_NAMES)
        names = [*PLAIN_NAMES, *fresh] if name == "name" else PLAIN_NAMES
        pool = MODELS if owner == "LanguageModelSourceInput" else TEXTS.get(name, names)
        return self._one(pool, [*HOSTILE_TEXTS, *HOSTILE_TEXTS, self._id(owner, "id"), *HOSTILE_OTHERS])

    def _cursor(self, listing: str) -> str:
        return f"<<cursor-{listing}:{self._dice.randrange(MANY)}>>"

    def _int(self, owner: str, name: str) -> Any:
        return self._one(NUMBERS.get(name, (0, 1, 2)), HOSTILE_NUMBERS)

    _float = _int

    def _boolean(self, owner: str, name: str) -> Any:
        return self._one((True, False), HOSTILE_OTHERS)

    def _upload(self, owner: str, name: str) -> Any:
        return self._one([FilePart(*self._dice.choice(UPLOADS))], ["no file", None, 1])


def forged_cursors() -> list[str]:
    """Return cursors that no server has made: base64 of JSON of the wrong kind, or of none."""
    keys: list[Any] = [
        [], {}, 1, None, ["saes"], ["saes", None], ["saes", "\ud800", "x"], ["jobs", 10**30, "a"], "[" * 2000,
        ["neurons", 2**63], ["neurons", -1], ["neurons", 1e999, 0], ["concepts", 2**64, "x"], [["saes"]] * 3,
        ["saes", "2026-01-01T00:00:00+00:00", "sae_x"], ["saes", "0000-99-99", "sae_x"], [True, False],
    ]  # fmt: skip
    texts = [key if isinstance(key, str) else json.dumps(key) for key in keys]
    return [base64.urlsafe_b64encode(text.encode()).decode().rstrip("=") for text in texts]


Draw = Callable[[GraphQLInputType, str, str], Any]
