"""Language models whose own files are the attack, and clients that leave what they have asked for."""

import asyncio
import json
import shutil
from contextlib import suppress

import httpx

from tests.attack.attack import Scale, attack, refusal_of
from tests.attack.site import Site
from tests.fuzz.making import Maker

GENERATE = """mutation ($input: GenerateInput!) { generate(input: $input) {
  __typename ... on Error { message } } }"""
FLAKE = "\N{SNOWMAN}"
"""Stands in no text that a load tries the tokenizer with."""


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
