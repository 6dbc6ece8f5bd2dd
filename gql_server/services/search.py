"""Search over names and IDs, as a command menu asks: a few letters, and what they may mean, best first."""

import re
import string
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    case,
    false,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.errors import InvalidInput
from gql_server.jobs.descriptions import SubjectIds, Subjects
from gql_server.services import batches, job_kinds
from gql_server.services.app_context import AppContext
from gql_server.services.checks import visible
from gql_server.services.cursors import check_first
from models import ActivationRun, Concept, ConceptConfig, Job, LanguageModel, Sae, StoredDataset

MAX_CHARACTERS = 200
MAX_WORDS = 8
"""Words of a text that must stand in a name; of more, the first ones must."""
MAX_TITLES = 200
"""The newest jobs, whose titles are searched; to put one together takes some 40 µs."""
EXACT, WHOLE_NAME, BEGINNING, BEGINNING_OF_WORD, SOMEWHERE = range(5)
"""How well a name or an ID matches, the best first; EXACT is of IDs."""

_NAMED: dict[str, Any] = {
    ids.LANGUAGE_MODEL: LanguageModel,
    ids.SAE: Sae,
    ids.ACTIVATION_RUN: ActivationRun,
    ids.DATASET: StoredDataset,
    ids.CONCEPT_CONFIG: ConceptConfig,
}
"""In the order in which equally good ones come; neurons by names, and jobs by IDs, come behind them."""
_OWN_NEURONS, _NEURONS, _JOBS = -1, len(_NAMED), len(_NAMED) + 1
_NUMBER = re.compile(r"(.*?)\s*#\s*([0-9]{1,9})")
_PART_OF_ID = re.compile(r"(?:([a-z]+)_)?([0-7][0-9A-HJKMNP-TV-Z]{3,25})", re.ASCII | re.IGNORECASE)
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_BETWEEN_WORDS = " -_/(."
_MIN_WITHOUT_KIND = 6
"""Characters of an ID's unique part by which it is found without its kind."""


async def find(server: AppContext, text: str, first: int, sae_id: str | None) -> list[str]:
    """Return the IDs of what a text may mean, the best first; a neuron's in the place of its concept's.

    Names match that have all words of the text, whatever the case of their ASCII letters. An ID, or its
    beginning, matches with or without its kind. ``#12``, or ``12``, is a neuron of the SAE ``sae_id``, and
    ``tiny #12`` one of each SAE whose name matches "tiny". Behind all of these come jobs whose titles match
    as names do, of the newest MAX_TITLES.

    Raises:
        InvalidInput: The text is empty or too long, or ``first`` outside 1 to 100.
        QueueFull: Too many searches wait already.
    """
    check_first(first)
    text = " ".join(text.split())
    if not visible(text) or len(text) > MAX_CHARACTERS:
        raise InvalidInput.at("text", f"Give 1 to {MAX_CHARACTERS} characters, not only spaces.")
    found = [text] if ids.parse_neuron_id(text) is not None else []
    async with server.searches.turn(), server.database.read() as session:
        if ids.kind_of(text) == ids.CONCEPT:
            found += await _of_concept(session, text)
        found += await _by_number(session, text, first, sae_id)
        found += await _by_name_or_id(session, text, first, sae_id)
        if len(set(found)) < first:
            found += await _jobs_by_title(session, text)
    return list(dict.fromkeys(found))[:first]


async def _of_concept(session: AsyncSession, id: str) -> list[str]:
    concept = await session.get(Concept, id)
    return [ids.neuron_id(concept.sae_id, concept.neuron_index)] if concept else []


async def _by_number(session: AsyncSession, text: str, first: int, sae_id: str | None) -> list[str]:
    """Return the neurons that a number at the end of a text names."""
    parts = _NUMBER.fullmatch(text if "#" in text else f"#{text}")
    if parts is None or not (parts[1] or sae_id):
        return []
    number = int(parts[2])
    name = _NameMatch.of(parts[1])
    which = name.matches(Sae.name) if parts[1] else Sae.id == sae_id
    best_first = (name.rank(Sae.name), Sae.created_at.desc(), Sae.id.desc())
    query = select(Sae.id).where(which, Sae.latent_count > number).order_by(*best_first).limit(first)
    return [ids.neuron_id(id, number) for id in await session.scalars(query)]


async def _by_name_or_id(session: AsyncSession, text: str, first: int, sae_id: str | None) -> list[str]:
    name, part = _NameMatch.of(text), _IdMatch.of(text)
    selects = [_named(kind, place, name, part) for place, kind in enumerate(_NAMED)]
    selects.append(_neurons(name, sae_id))
    if part.unique:
        # By their IDs alone, which have an index: there may be very many.
        rank = part.rank(ids.JOB, Job.id)
        selects.append(
            _hits(Job.id, rank, literal(_JOBS), Job.created_at).where(part.matches(ids.JOB, Job.id))
        )
    hit = union_all(*selects).subquery().c
    best_first = (hit.rank, hit.place, hit.at.desc(), hit.id.desc(), hit.neuron)
    rows = await session.execute(select(hit.id, hit.neuron).order_by(*best_first).limit(first))
    return [id if neuron is None else ids.neuron_id(id, neuron) for id, neuron in rows]


async def _jobs_by_title(session: AsyncSession, text: str) -> list[str]:
    """Return the jobs whose titles have all words of a text, newest first.

    A title is made of the present names of what the job is about, and stands nowhere in the database.
    """
    name = _NameMatch.of(text)
    newest = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(MAX_TITLES)
    jobs = list(await session.scalars(newest))
    about = [SubjectIds.of(job) for job in jobs]
    language_models = await batches.rows(session, LanguageModel, list({one.language_model for one in about}))
    runs = await batches.rows(session, ActivationRun, list({one.activation_run for one in about}))
    saes = await batches.rows(session, Sae, list({one.sae for one in about}))

    def title(job: Job, of: SubjectIds) -> str:
        rows = language_models.get(of.language_model), runs.get(of.activation_run), saes.get(of.sae)
        return job_kinds.BY_KIND[job.kind].describe(job, Subjects(*rows)).title

    return [job.id for job, of in zip(jobs, about, strict=True) if name.is_in(title(job, of))]


def _named(kind: str, place: int, name: "_NameMatch", part: "_IdMatch") -> Select[Any]:
    table = _NAMED[kind]
    by_id = part.matches(kind, table.id)
    rank = case((by_id, part.rank(kind, table.id)), else_=name.rank(table.name))
    return _hits(table.id, rank, literal(place), table.created_at).where(or_(by_id, name.matches(table.name)))


def _neurons(name: "_NameMatch", sae_id: str | None) -> Select[Any]:
    place = case((Concept.sae_id == (sae_id or ""), _OWN_NEURONS), else_=_NEURONS)
    neuron = Concept.neuron_index
    hits = _hits(Concept.sae_id, name.rank(Concept.name), place, Concept.updated_at, neuron)
    return hits.where(name.matches(Concept.name))


def _hits(id: Any, rank: Any, place: Any, at: Any, neuron: Any = None) -> Select[Any]:
    neuron = literal(None, Integer) if neuron is None else neuron
    labels = {"id": id, "neuron": neuron, "rank": rank, "place": place, "at": at}
    return select(*(column.label(label) for label, column in labels.items()))


@dataclass(frozen=True)
class _NameMatch:
    """How names match a text."""

    text: str
    words: tuple[str, ...]

    @staticmethod
    def of(text: str) -> "_NameMatch":
        return _NameMatch(text, tuple(dict.fromkeys(text.split()))[:MAX_WORDS])

    def matches(self, name: Any) -> ColumnElement[bool]:
        """Whether a name has all words; SQLite's LIKE does not tell the cases of ASCII letters apart."""
        return and_(*(name.contains(word, autoescape=True) for word in self.words))

    def is_in(self, name: str) -> bool:
        """Whether a name that is no column has all words."""
        lowered = name.translate(_ASCII_LOWER)
        return all(word.translate(_ASCII_LOWER) in lowered for word in self.words)

    def rank(self, name: Any) -> ColumnElement[int]:
        """How well a name matches that does."""
        # GLOB would have sets of characters, and takes ten times as long.
        in_words = [name.contains(f"{sign}{self.text}", autoescape=True) for sign in _BETWEEN_WORDS]
        return case(
            (name.collate("NOCASE") == self.text, WHOLE_NAME),
            (name.startswith(self.text, autoescape=True), BEGINNING),
            (or_(*in_words), BEGINNING_OF_WORD),
            else_=SOMEWHERE,
        )


@dataclass(frozen=True)
class _IdMatch:
    """How IDs match a text: as a whole or by their beginning; none where ``unique`` is empty."""

    kind: str | None
    """None: of any kind."""
    unique: str

    @staticmethod
    def of(text: str) -> "_IdMatch":
        found = _PART_OF_ID.fullmatch(text)
        if found is None or (found[1] is None and len(found[2]) < _MIN_WITHOUT_KIND):
            return _IdMatch(None, "")
        return _IdMatch(found[1] and found[1].lower(), found[2].upper())

    def matches(self, kind: str, id: Any) -> ColumnElement[bool]:
        """Whether an ID of a kind begins so."""
        if not self.unique or self.kind not in (None, kind):
            return false()
        beginning = f"{kind}_{self.unique}"
        return and_(id >= beginning, id < f"{beginning}~")

    def rank(self, kind: str, id: Any) -> ColumnElement[int]:
        """How well an ID matches that does."""
        return case((id == f"{kind}_{self.unique}", EXACT), else_=BEGINNING)
