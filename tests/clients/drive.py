"""Uses a client of docs/clients.md as an application would, and prints as JSON what came of it.

Usage: python drive.py TASK MODULE ARGUMENTS, as drive.mjs.
"""

import asyncio
import importlib
import json
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

TOO_LARGE = " " * 200_000


class Driver:
    """Drives one of the modules, whose inputs and results are dictionaries or generated models."""

    def __init__(self, module: Path, given: dict[str, Any]) -> None:
        sys.path.insert(0, str(module.parent))
        self._api = importlib.import_module(module.stem)
        self._given = given
        self._directory = module.parent

    async def use(self) -> dict[str, Any]:
        """Ask, launch, follow, upload, and be refused."""
        launched = plain(await self._api.capture(self._capture()))
        events = await self._events(launched["id"], 0)
        from_file = await self._api.capture_file(
            self._capture(), self._file("texts.jsonl", self._given["jsonl"]), "body"
        )
        from_file_id = plain(from_file)["id"]
        await self._events(from_file_id, 0)
        concepts = self._file("concepts.csv", self._given["csv"])
        too_large = self._file("too-large.csv", self._given["csv"] + TOO_LARGE)
        sae_id = self._given["saeId"]
        return {
            "overview": plain(await self._api.overview(1)),
            "launched": launched,
            "events": events,
            "fromFile": from_file_id,
            "refused": await self._failure(self._api.capture(self._capture(batchSize=-1))),
            "imported": plain(await self._api.import_concepts(sae_id, concepts)),
            "tooLarge": await self._failure(self._api.import_concepts(sae_id, too_large)),
        }

    async def follow(self) -> list[Any]:
        """Follow a job above a sequence number."""
        return await self._events(self._given["job"], self._given["after"])

    async def fail(self) -> dict[str, Any]:
        """Ask and subscribe where neither can succeed."""
        return {
            "query": await self._failure(self._api.overview(1)),
            "subscription": await self._failure(self._events(self._given["job"], 0)),
        }

    def _capture(self, **more: Any) -> Any:
        values = self._given["capture"] | more
        inputs = getattr(self._api, "CaptureActivationsInput", None)
        return values if inputs is None else inputs.model_validate(values)

    def _file(self, name: str, content: str) -> str:
        path = self._directory / name
        path.write_text(content)
        return str(path)

    async def _events(self, job_id: str, after: int) -> list[Any]:
        events = [plain(event) async for event in self._api.follow(job_id, after)]
        return [event.get("jobProgress", event) for event in events]

    async def _failure(self, work: Awaitable[Any]) -> dict[str, Any]:
        try:
            return {"value": plain(await work)}
        except Exception as error:
            refusal = plain(getattr(error, "refusal", None))
            return {"code": self._api.code_of(error), "refusal": refusal, "message": str(error)}


def plain(value: Any) -> Any:
    """Return a generated model as the JSON that it came from."""
    return value.model_dump(mode="json", by_alias=True) if hasattr(value, "model_dump") else value


if __name__ == "__main__":
    task, module, given = sys.argv[1:]
    driver = Driver(Path(module), json.loads(given))
    print(json.dumps(asyncio.run(getattr(driver, task)())))
