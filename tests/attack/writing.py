"""What makes the server write: files of top texts without end, and a directory that is moved meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gql_server import ids
from gql_server.services.generation import MAX_TOP_NEURONS, MAX_TOP_TEXTS_FILES
from tests.attack.attack import Scale, attack, refusal_of
from tests.attack.site import Site

GENERATE = """mutation ($input: GenerateInput!) { generate(input: $input) {
  __typename ... on Generation { topTextsPath } ... on Error { message } } }"""
SAVE = """mutation ($input: SaveConceptConfigInput!) { saveConceptConfig(input: $input) {
  __typename ... on ConceptConfigSaved { conceptConfig { path } } ... on Error { message } } }"""
AT_ONCE = 4
WELL_SECONDS = 10
"""By then the server says that it is well again."""


def input_of(site: Site, prompts: list[str]) -> dict[str, object]:
    """Return a request for a token after each prompt, and for a file of all neurons' top texts among them."""
    return {
        "saeId": site.sae_id,
        "prompts": prompts,
        "maxNewTokens": 1,
        "topNeurons": MAX_TOP_NEURONS,
        "writeTopTexts": True,
    }


@attack("11", "files of top texts, again and again")
async def top_texts(site: Site, scale: Scale) -> str:
    """More than are kept; each is there when it has been told of."""
    asked = input_of(site, [f"{number} is" for number in range(20)])
    made: list[Path] = []
    for _ in range(2 * scale.times):
        for answer in await asyncio.gather(*(site.ask(GENERATE, input=asked) for _ in range(AT_ONCE))):
            assert refusal_of(answer) == "done", answer
            made.append(site.artifact_dir / answer["data"]["generate"]["topTextsPath"])
            assert made[-1].stat().st_size, "a file that was told of is not there"
    left = list(made[-1].parent.glob(f"{ids.REQUEST}_*.json"))
    assert len(left) < MAX_TOP_TEXTS_FILES + AT_ONCE
    size = sum(one.stat().st_size for one in left)
    return f"{len(made)} made, {len(left)} left, {size / len(left) / 1e3:,.0f} kB each"


@attack("11", "a file of top texts for sixty prompts")
async def large_top_texts(site: Site, scale: Scale) -> str:
    """Each neuron of each output could have each of the texts."""
    asked = input_of(site, [f"{number} is" for number in range(60)])
    answers = await asyncio.gather(*(site.ask(GENERATE, input=asked) for _ in range(scale.times)))
    return "; ".join({refusal_of(answer) for answer in answers})


def config(site: Site, name: str) -> dict[str, object]:
    """Return a config of one edit."""
    return {"saeId": site.sae_id, "name": name, "edits": [{"neuronIndex": 1, "multiplier": 2}]}


@attack("14", "the artifact directory, moved away and back")
async def moved(site: Site, scale: Scale) -> str:
    """While somebody saves one thing after the other: what is acknowledged must be there afterwards."""
    told: Counter[str] = Counter()
    kept: list[str] = []
    meanwhile: list[str] = []
    away, stop = asyncio.Event(), asyncio.Event()

    async def save() -> None:
        while not stop.is_set():
            asked_while_away = away.is_set()  # What was asked before may well be answered after the move.
            answer = await site.ask(SAVE, input=config(site, f"number {told.total()}"))
            told[refusal_of(answer)] += 1
            if refusal_of(answer) == "done":
                kept.append(answer["data"]["saveConceptConfig"]["conceptConfig"]["path"])
                if asked_while_away and away.is_set():
                    meanwhile.append(kept[-1])
            await asyncio.sleep(0.05)

    saving = asyncio.ensure_future(save())
    try:
        await healthy(site)
        with elsewhere(site.artifact_dir):
            away.set()
            await asyncio.sleep(1)  # The server looks after itself at longer intervals.
            unwell = await site.client.get("/healthz")
            await asyncio.sleep(scale.hold_seconds)
            away.clear()
        await healthy(site)
        answer = await site.ask(SAVE, input=config(site, "the first one afterwards"))
        assert refusal_of(answer) == "done"
    finally:
        stop.set()
        await saving
    assert unwell.status_code == 503 and "not where it was" in unwell.text
    lost = [path for path in kept if not (site.artifact_dir / path).is_file()]
    assert not lost, f"{len(lost)} were acknowledged into nothing"
    refused = "; ".join(f"{number} times {what}" for what, number in told.items() if what != "done")
    return f"503; {len(meanwhile)} of {len(kept)} kept meanwhile; {refused}"


@contextmanager
def elsewhere(directory: Path) -> Iterator[None]:
    """Have a directory moved away while the block runs; what takes its place then is put beside it."""
    other = directory.with_name("elsewhere")
    directory.rename(other)
    try:
        yield
    finally:
        if directory.exists():
            directory.rename(directory.with_name("in its place"))
        other.rename(directory)


async def healthy(site: Site) -> None:
    """Wait until the server says that it is well."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + WELL_SECONDS
    while not (told := await site.client.get("/healthz")).is_success:
        assert clock() < deadline, told.text
        await asyncio.sleep(0.1)
