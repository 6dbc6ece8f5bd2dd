"""Finding public SAEs: for a language model, by words, and the layers that they are for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from gql_server.formats.public_saes.catalogue import PublicSae, catalogue
from gql_server.formats.sae_sources.places import Places
from gql_server.services import cursors, lookup
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.pages import Page
from models import LanguageModel

MAX_CHARACTERS = 200
_LISTING = "public_saes"


@dataclass(frozen=True)
class FoundPublicSae:
    """A public SAE, and where it belongs here."""

    sae: PublicSae
    layer: str | None
    """The layer of the language model that was asked for; None where none is known to put that out."""


@dataclass(frozen=True)
class PublicSaePage:
    """A page of the catalogue, in its order."""

    page: Page[FoundPublicSae]
    total: int


async def find(
    server: AppContext,
    language_model_id: str | None,
    search: str | None,
    importable: bool | None,
    first: int,
    after: str | None,
) -> PublicSaePage:
    """Return a page of public SAEs.

    Args:
        server: With the language models.
        language_model_id: Only those for a model of that name; None for all.
        search: Words that stand in their releases, repositories, paths, models, places or formats.
        importable: Only those that can be imported, or only those that cannot.
        first: How many, 1 to 100.
        after: A cursor of this list.

    Raises:
        InvalidInput, NotFound: See the API.
    """
    cursors.check_first(first)
    checks = Checks()
    too_long = f"A search has up to {MAX_CHARACTERS} characters; this one has {len(search or '')}."
    checks.require(len(search or "") <= MAX_CHARACTERS, "search", too_long)
    checks.done()
    begin = 0 if after is None else cursors.decode(after, _LISTING, int)[0] + 1
    language_model = None
    if language_model_id is not None:
        async with server.database.read() as session:
            language_model = await lookup.get(session, LanguageModel, language_model_id)
    words = (search or "").lower().split()
    found = await asyncio.to_thread(_matching, language_model, words, importable)
    rest = [sae for sae in found if sae.number >= begin]
    places = Places((language_model and language_model.layers) or [])
    shown = [FoundPublicSae(sae, places.layer_of(sae.reads)) for sae in rest[:first]]
    page = Page(
        items=shown,
        cursors=[cursors.encode(_LISTING, one.sae.number) for one in shown],
        has_next=len(rest) > first,
        has_previous=after is not None,
    )
    return PublicSaePage(page, len(found))


def _matching(
    language_model: LanguageModel | None, words: Sequence[str], importable: bool | None
) -> list[PublicSae]:
    names = None if language_model is None else _names_of(language_model)
    return [
        sae
        for sae in catalogue()
        if (names is None or PurePath(sae.language_model).name.lower() in names)
        and all(word in sae.words for word in words)
        and (importable is None or (sae.refusal is None) is importable)
    ]


def _names_of(language_model: LanguageModel) -> set[str]:
    """Return what a model may be called on the Hub, without its owner, in lower case."""
    source = PurePath(language_model.source)
    return {name.lower() for name in (source.name, source.stem, language_model.name)}
