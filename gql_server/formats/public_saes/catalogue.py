"""Public SAEs, as a file of this package lists them; tests/saelens/catalogue.py writes it.

The facts are those of the sae-lens package's catalogue: releases, repositories, paths, and what names tell.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from gql_server.formats.sae_sources.registry import FORMATS

_UNREAD_FORMATS = {
    "CONNOR_ROB": "the .pt files of its own that this repository has",
    "TEMPORAL": "temporal SAEs, which need the tokens before",
}
"""Formats of the catalogue that no reader here knows."""


@dataclass(frozen=True)
class PublicSae:
    """An SAE that somebody has published."""

    number: int
    """Its place in the catalogue."""
    release: str
    id: str
    """What the release calls it."""
    repository: str
    """On the Hub."""
    path: str
    """Of its directory or file there."""
    language_model: str
    """A repository of the Hub."""
    format: str
    """A key of registry.FORMATS, or of none."""
    architecture: str
    """In SAELens' words, as far as names tell it."""
    normalization: str | None
    """How inputs are normalized where the weights do not hold it, in SAELens' words."""
    reads: str
    """Where its inputs come from: a hook of TransformerLens."""
    writes: str | None
    """Where a transcoder's outputs go."""
    depth: int | None
    """The number of the block."""
    width: int | None
    """Latents, as far as names tell it."""
    l0: float | None
    """Mean number of active latents, as it is stated."""
    input_scale: float | None
    """By what inputs are multiplied, where its files do not hold it."""
    centers_inputs: bool
    """Whether each token's mean was taken out of inputs, where its files do not say so."""
    words: str
    """What a search looks at, in lower case."""

    @property
    def refusal(self) -> str | None:
        """Why it cannot be taken over, in a sentence; None where it can."""
        if self.format not in FORMATS:
            return f"Its format is not read: {_UNREAD_FORMATS[self.format]}."
        if self.architecture == "cross_layer_transcoder":
            return "It is a transcoder that writes several layers."
        if self.normalization == "constant_norm_rescale":
            return "It normalizes each token's input, which its files do not say."
        if self.reads == "hook_embed":
            return "It is for embeddings that are scaled, which no layer here is known to put out."
        return None


@cache
def catalogue() -> Sequence[PublicSae]:
    """Return all public SAEs, in the order of their releases' names."""
    packed = (files(__package__) / "catalogue.json.gz").read_bytes()
    releases = json.loads(gzip.decompress(packed))["releases"]
    rows = [(release, row) for release in releases for row in release["saes"]]
    return [_entry(number, release, row) for number, (release, row) in enumerate(rows)]


def find_public(repository: str | None, path: str) -> PublicSae | None:
    """Return the public SAE at a path of a repository, the first where several releases have it."""
    if repository is None:
        return None
    return next((sae for sae in catalogue() if (sae.repository, sae.path) == (repository, path)), None)


def _entry(number: int, release: dict[str, Any], row: Sequence[Any]) -> PublicSae:
    id, path, kind, depth, width, l0, input_scale = row
    architecture, normalization, reads, writes = release["kinds"][kind]
    reads, writes = _at(reads, depth), _at(writes, depth)
    path = path or id
    model, repository = release["language_model"], release["repository"]
    said = (release["release"], repository, id, path, model, reads, writes or "")
    return PublicSae(
        number=number,
        release=release["release"],
        id=id,
        repository=repository,
        path=path,
        language_model=model,
        format=release["format"],
        architecture=architecture,
        normalization=normalization,
        reads=reads,
        writes=writes,
        depth=depth,
        width=width,
        l0=l0,
        input_scale=input_scale,
        centers_inputs=release["centered"],
        words=" ".join((*said, release["format"], architecture)).lower(),
    )


def _at(hook: str | None, depth: int | None) -> Any:
    """Return a hook's whole name."""
    return hook if hook is None or depth is None else f"blocks.{depth}.{hook}"
