"""What neurons are ordered by, and what they have to fulfil."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gql_server.artifacts.search_words import words
from gql_server.services.checks import Checks
from models.enums import ConceptSource

MAX_INDICES = 1000
MAX_SEARCH_CHARACTERS = 200
MAX_SEARCH_WORDS = 8


class NeuronOrder(StrEnum):
    """What neurons are ordered by; ties go by index."""

    INDEX = "INDEX"
    FREQUENCY_DESC = "FREQUENCY_DESC"
    FREQUENCY_ASC = "FREQUENCY_ASC"
    MAX_ACTIVATION_DESC = "MAX_ACTIVATION_DESC"
    MAX_ACTIVATION_ASC = "MAX_ACTIVATION_ASC"
    MEAN_ACTIVATION_DESC = "MEAN_ACTIVATION_DESC"
    CONCEPT_NAME = "CONCEPT_NAME"
    CONCEPT_UPDATED_DESC = "CONCEPT_UPDATED_DESC"


BY_CONCEPT = (NeuronOrder.CONCEPT_NAME, NeuronOrder.CONCEPT_UPDATED_DESC)
"""Orders by what the neurons' names say; those without one come last."""


class NeuronSearchField(StrEnum):
    """Where the words of a search are looked for."""

    CONCEPT = "CONCEPT"
    NOTE = "NOTE"
    TOP_TEXTS = "TOP_TEXTS"
    PROMOTED_TOKENS = "PROMOTED_TOKENS"


OF_CONCEPTS = (NeuronSearchField.CONCEPT, NeuronSearchField.NOTE)
OF_INDEX = (NeuronSearchField.TOP_TEXTS, NeuronSearchField.PROMOTED_TOKENS)


@dataclass(frozen=True)
class NeuronConditions:
    """What neurons must fulfil; None asks nothing."""

    dead: bool | None = None
    has_concept: bool | None = None
    min_frequency: float | None = None
    max_frequency: float | None = None
    min_max_activation: float | None = None
    max_max_activation: float | None = None
    indices: tuple[int, ...] | None = None
    concept_sources: tuple[ConceptSource, ...] | None = None
    search: str | None = None
    """Blank asks nothing."""
    search_in: tuple[NeuronSearchField, ...] | None = None
    """None is everything that can be told."""

    @property
    def search_words(self) -> list[str]:
        """The words to look for."""
        return words(self.search or "")

    @property
    def searches(self) -> bool:
        """Whether there is something to look for, though it may have no word."""
        return bool(self.search and self.search.strip())

    @property
    def needs_index(self) -> bool:
        """Whether only a neuron index can tell."""
        figures = (
            self.dead,
            self.min_frequency,
            self.max_frequency,
            self.min_max_activation,
            self.max_max_activation,
        )
        return any(figure is not None for figure in figures) or self.needs_words

    @property
    def needs_words(self) -> bool:
        """Whether a search is asked for that only an index's words can answer."""
        return self.searches and any(field in OF_INDEX for field in self.search_in or ())

    @property
    def searched_fields(self) -> Sequence[NeuronSearchField]:
        """Where to look for the words, if there are any."""
        return tuple(NeuronSearchField) if self.search_in is None else self.search_in

    @property
    def none(self) -> bool:
        """Whether nothing is asked for."""
        return self == NeuronConditions(search=self.search, search_in=self.search_in) and not self.searches

    def check(self) -> None:
        """Refuse what is too much. Raises InvalidInput."""
        checks, indices, search = Checks(), self.indices or (), self.search or ""
        checks.require(
            len(indices) <= MAX_INDICES,
            ("filter", "indices"),
            f"At most {MAX_INDICES:,} indices at once; there are {len(indices):,}.",
        )
        checks.require(
            len(search) <= MAX_SEARCH_CHARACTERS and len(self.search_words) <= MAX_SEARCH_WORDS,
            ("filter", "search"),
            f"A search has at most {MAX_SEARCH_CHARACTERS} characters and {MAX_SEARCH_WORDS} words.",
        )
        checks.done()
