"""What the server has for operations to hit, made over its public API, and anew where it has been deleted."""

import asyncio
import itertools
import re
from collections.abc import Sequence
from typing import Any

from tests.fuzz.making import BATCH_TOKENS, LATENTS, Maker, NotMadeError

STAND_IN = re.compile(r"<<([a-z-]+):(\d+)>>")
MISSING = "nothing_01ARZ3NDEKTSV4RRFFQ69G5FAV"
"""Stands for what the server has none of."""

ATTEMPTS = 5
PAUSE_SECONDS = 0.5
SEVERAL = 6
"""Things of a kind that are told apart."""

LOOK = """query($sae: ID!) {
  languageModels { id status layers { name } }
  activationRuns(first: 100) { edges { cursor node { id status tokenCount } } }
  saes(first: 100) { edges { cursor node { id status latentCount neuronIndex { status } } } }
  datasets(first: 6) { edges { cursor node { id } } }
  jobs(first: 60) { edges { cursor node { id status } } }
  sae(id: $sae) {
    neurons(first: 6) { edges { cursor node { id } } }
    loudest: neurons(first: 6, orderBy: MAX_ACTIVATION_DESC) { edges { cursor } }
    concepts(first: 6) { edges { cursor node { id } } }
    conceptConfigs(first: 6) { edges { cursor node { id } } }
  }
}"""


class World:
    """The things of a server by kind: IDs, cursors, layers."""

    def __init__(self, maker: Maker, files: Sequence[str], models: Sequence[str]) -> None:
        self._maker = maker
        self._known: dict[str, list[str]] = {"file": list(files), "model": list(models)}
        self._seen: set[str] = set()

    def put_in(self, value: Any) -> Any:
        """Return a value with things of the server in the place of their stand-ins."""
        match value:
            case str():
                return STAND_IN.sub(lambda found: self._thing(found[1], int(found[2])), value)
            case dict():
                return {self.put_in(name): self.put_in(item) for name, item in value.items()}
            case list():
                return [self.put_in(item) for item in value]
        return value

    def _thing(self, kind: str, number: int) -> str:
        things = self._known.get(kind)
        return things[number % len(things)] if things else MISSING

    async def refresh(self) -> None:
        """See what is there, and make what is missing.

        Raises:
            NotMadeError: The server refused, or a job did not succeed.
        """
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                await self._refresh()
                return
            except NotMadeError:  # An operation that was sent before may have come between.
                if attempts_left == 0:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    async def _refresh(self) -> None:
        maker = self._maker
        seen = await self._look(MISSING)
        language_model = await self._language_model(seen["languageModels"])
        runs = _ready(seen["activationRuns"])
        run = next((run["id"] for run in runs if run["tokenCount"] >= BATCH_TOKENS), None)
        run = run or await maker.run(language_model)
        sae = next((sae["id"] for sae in _ready(seen["saes"]) if _is_indexed(sae)), None)
        sae = sae or await maker.sae(run)
        shown = (await self._look(sae))["sae"] or {}
        if not shown.get("concepts", {}).get("edges"):
            await maker.concepts(sae)
        if not shown.get("conceptConfigs", {}).get("edges"):
            await maker.config(sae)
        await maker.jobs(language_model, run)
        self._note(await self._look(sae), [language_model, run, sae])

    async def _language_model(self, known: Sequence[dict[str, Any]]) -> str:
        """Return a language model that is loaded."""
        was_loaded = [lm for lm in known if lm["layers"]]
        chosen = next((lm for lm in was_loaded if lm["status"] == "LOADED"), None)
        if chosen is not None:
            return str(chosen["id"])
        id = was_loaded[0]["id"] if was_loaded else await self._maker.language_model()
        await self._maker.load(id)
        return str(id)

    async def _look(self, sae: str) -> dict[str, Any]:
        return await self._maker.ask(LOOK, sae=sae)

    def _note(self, seen: dict[str, Any], fit: list[str]) -> None:
        """Note what is there, what is fit for use first."""
        neurons = seen["sae"] or {"neurons": {"edges": []}}
        edges = {
            "run": seen["activationRuns"]["edges"],
            "sae": seen["saes"]["edges"],
            "dataset": seen["datasets"]["edges"],
            "job": seen["jobs"]["edges"],
            "neuron": neurons["neurons"]["edges"],
            "concept": neurons.get("concepts", {"edges": []})["edges"],
            "config": neurons.get("conceptConfigs", {"edges": []})["edges"],
        }
        for kind, found in edges.items():
            self._known[kind] = _some([edge["node"]["id"] for edge in _mixed(found)], fit)
            self._known[f"cursor-{kind}s"] = [edge["cursor"] for edge in found]
        self._known["cursor-loudest"] = [e["cursor"] for e in neurons.get("loudest", {"edges": []})["edges"]]
        self._known["lm"] = _some([lm["id"] for lm in seen["languageModels"]], fit)
        layers = [layer["name"] for lm in seen["languageModels"] for layer in lm["layers"] or []]
        self._known["layer"] = layers[:2] or [MISSING]
        there = {edge["node"]["id"] for found in edges.values() for edge in found}
        self._known["gone"] = sorted(self._seen - there)[-SEVERAL:]
        self._seen |= there


def _ready(listing: dict[str, Any]) -> list[dict[str, Any]]:
    return [edge["node"] for edge in listing["edges"] if edge["node"]["status"] == "READY"]


def _is_indexed(sae: dict[str, Any]) -> bool:
    return sae["latentCount"] == LATENTS and (sae["neuronIndex"] or {}).get("status") == "READY"


def _some(ids: list[str], fit: list[str]) -> list[str]:
    return sorted(ids, key=lambda id: id not in fit)[:SEVERAL]


def _mixed(edges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put one of each status first, then the second of each, and so on."""
    by_status: dict[str, list[dict[str, Any]]] = {}
    for edge in edges:
        by_status.setdefault(str(edge["node"].get("status")), []).append(edge)
    rows = itertools.zip_longest(*by_status.values())
    return [edge for row in rows for edge in row if edge is not None]
