"""Language models whose own files are the attack, and clients that leave what they have asked for."""

import asyncio
import base64
import json
import shutil
from contextlib import suppress
from statistics import median

import httpx

from tests.attack.attack import Scale, attack, refusal_of
from tests.attack.site import Site
from tests.fuzz.making import Maker

GENERATE = """mutation ($input: GenerateInput!) { generate(input: $input) {
  __typename ... on Error { message } } }"""
FLAKE = "\N{SNOWMAN}"
"""Stands in no text that a load tries the tokenizer with."""

TABLE_ENTRIES = 0xF1
BEYOND_THE_TABLE = "\U0010fffd"
"""Its first byte is 0xF4; those of the texts that a load tries the tokenizer with are 0xF0 at most."""


async def language_model(
    site: Site, name: str, tokenizer: dict[str, object] | None = None, template: str | None = None
) -> str:
    """Return the ID of the tiny model with another tokenizer or chat template, loaded."""
    directory = site.models / name
    shutil.copytree(site.models / "tiny", directory)
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (tokenizer or {})))
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    maker = Maker(site.client, str(directory))
    maker.names = f"{name} "
    id = await maker.language_model()
    await maker.load(id)
    return id


@attack("4", "a tokenizer that makes gigabytes of a character")
async def normalizer(site: Site, scale: Scale) -> str:
    """Each step writes it a hundred times."""
    steps = [{"type": "Replace", "pattern": {"String": FLAKE}, "content": 100 * FLAKE} for _ in range(6)]
    id = await language_model(
        site, "snow", tokenizer={"normalizer": {"type": "Sequence", "normalizers": steps}}
    )
    asked = {"languageModelId": id, "prompts": [FLAKE]}
    return refusal_of(await site.ask(GENERATE, input=asked))


@attack("4", "a prompt that makes the tokenizers library panic")
async def panic(site: Site, scale: Scale) -> str:
    """Its table of characters ends before the first byte of some; the library looks there all the same."""
    table = (4 * TABLE_ENTRIES).to_bytes(4, "little") + bytes(4 * TABLE_ENTRIES)
    normalizer = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    id = await language_model(site, "short", tokenizer={"normalizer": normalizer})
    asked = {"languageModelId": id, "prompts": [BEYOND_THE_TABLE], "maxNewTokens": 1}
    told = {refusal_of(await site.ask(GENERATE, input=asked)) for _ in range(scale.times)}
    good = refusal_of(await site.ask(GENERATE, input=asked | {"prompts": ["a"]}))
    return f"{'; '.join(sorted(told))}; without it: {good}"


@attack("4", "a chat template without end")
async def chat_template(site: Site, scale: Scale) -> str:
    """Loops in loops."""
    template = 3 * "{% for one in range(99999) %}" + 3 * "{% endfor %}"
    id = await language_model(site, "loops", template=template)
    asked = {"languageModelId": id, "prompts": ["a"], "chat": True}
    return refusal_of(await site.ask(GENERATE, input=asked))


@attack("5", "sixteen generations that nobody waits for")
async def abandoned(site: Site, scale: Scale) -> str:
    """Each would go on for a minute; then somebody asks for a single token."""
    asked = {"languageModelId": site.language_model_id, "prompts": ["True and"] * 8, "maxNewTokens": 40}
    body = {"query": GENERATE, "variables": {"input": asked}}

    async def leave() -> None:
        headers = {"Authorization": f"Bearer {site.token}"}
        async with httpx.AsyncClient(base_url=site.server.url, headers=headers) as client:
            with suppress(httpx.TimeoutException):
                await client.post("/graphql", json=body, timeout=0.3)

    await asyncio.gather(*(leave() for _ in range(16)))
    clock = asyncio.get_running_loop().time
    began = clock()
    told = refusal_of(await site.ask(GENERATE, input={**asked, "prompts": ["a"], "maxNewTokens": 1}))
    assert clock() - began < 30, "the next client waited for what nobody waits for"
    return f"the next one: {told}"


@attack("5", "two clients with long generations, a third with a short one")
async def short_beside_long(site: Site, scale: Scale) -> str:
    """The long ones are as long as may be, and begun again when they end."""
    long = {"languageModelId": site.language_model_id, "prompts": 40 * ["True and"], "maxNewTokens": 450}
    short = {"languageModelId": site.language_model_id, "prompts": ["a"], "maxNewTokens": 8}
    clock = asyncio.get_running_loop().time
    waits: list[float] = []
    ended: list[str] = []

    async def generate() -> None:
        while True:
            ended.append(refusal_of(await site.ask(GENERATE, input=long)))

    others = [asyncio.ensure_future(generate()) for _ in range(2)]
    await asyncio.sleep(1)  # Until the first of them is on its way.
    for _ in range(scale.times):
        began = clock()
        assert refusal_of(await site.ask(GENERATE, input=short)) == "done"
        waits.append(clock() - began)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert set(ended) <= {"done"}, ended
    assert max(waits) < 10, "a short generation waited for a long one"
    typical, worst = (f"{1000 * seconds:,.0f} ms" for seconds in (median(waits), max(waits)))
    return f"the short one took {typical}, at worst {worst}; {len(ended)} long ones ended by then"
