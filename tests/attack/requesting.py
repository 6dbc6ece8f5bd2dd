"""Requests with a token that cost more than they seem to."""

import asyncio
import json
from contextlib import AsyncExitStack

from websockets.asyncio.client import connect

from tests.attack.attack import Scale, attack, refusal_of
from tests.attack.site import Site


async def post(site: Site, body: bytes) -> str:
    """Return what becomes of a body."""
    response = await site.client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    return f"{response.status_code}, {refusal_of(response.json())}"


@attack("9", "4 MB of brackets")
async def brackets(site: Site, scale: Scale) -> str:
    """A million values that nobody asks for."""
    body = b'{"query": "{ __typename }", "variables": {"a": [' + b"[]," * 1_300_000 + b"[]]}}"
    answers = await asyncio.gather(*(post(site, body) for _ in range(scale.times)))
    return "; ".join(sorted(set(answers)))


@attack("9", "thirty imports of one variable of 4 MB")
async def thirty_imports(site: Site, scale: Scale) -> str:
    """Each reads it again."""
    fields = " ".join(
        f'a{i}: importConcepts(input: {{saeId: "x", source: {{csv: $csv}}}}) {{ __typename }}'
        for i in range(30)
    )
    return refusal_of(await site.ask(f"mutation ($csv: String!) {{ {fields} }}", csv="1,a,1\n" * 500_000))


@attack("8", "a value of 4 MB in thirty errors")
async def echoes(site: Site, scale: Scale) -> str:
    """Each says what was wrong with it."""
    fields = " ".join(f"a{i}: saes(first: $first) {{ totalCount }}" for i in range(30))
    return refusal_of(await site.ask(f"query ($first: Int!) {{ {fields} }}", first="x" * 4_000_000))


@attack("10", "3,000 watchers of jobs")
async def watchers(site: Site, scale: Scale) -> str:
    """While jobs move, each is told of each move."""
    headers = {"Authorization": f"Bearer {site.token}"}
    url = f"ws://{site.host}:{site.port}/graphql"
    refused: list[str] = []

    async def read(socket: object) -> None:
        async for text in socket:  # type: ignore[attr-defined]
            message = json.loads(text)
            payload = message.get("payload")
            errors = payload if message["type"] == "error" else (payload or {}).get("errors")
            refused.extend(error["message"] for error in errors or [])

    async with AsyncExitStack() as stack:
        for number in range(max(1, scale.connections // 80)):
            socket = await stack.enter_async_context(
                connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers)  # type: ignore[list-item]
            )
            await socket.send('{"type": "connection_init"}')
            reading = asyncio.ensure_future(read(socket))
            stack.callback(reading.cancel)
            for watcher in range(100):
                fields = f"a{number}x{watcher}: id status kind progress {{ fraction }}"
                query = f"subscription {{ jobs {{ {fields} }} }}"
                payload = {"query": query}
                await socket.send(json.dumps({"id": str(watcher), "type": "subscribe", "payload": payload}))
        unload = "mutation ($id: ID!) { loadLanguageModel(id: $id) { __typename } }"
        for _ in range(scale.times):
            await site.ask(unload, id=site.language_model_id)
            await asyncio.sleep(0.2)
        await asyncio.sleep(3)
    return f"{len(refused)} refused: {refused[0][:80]}" if refused else "none refused"


@attack("6", "a revision that is a path")
async def revision(site: Site, scale: Scale) -> str:
    """What a client says must not be joined to a path."""
    mutation = """mutation ($revision: String!) { addLanguageModel(input: {name: "r", source: {huggingFace:
      {repository: "a/b", revision: $revision}}}) { __typename ... on Error { message } } }"""
    told = {refusal_of(await site.ask(mutation, revision=one)) for one in ("/dev/zero", "../../x", "a/../b")}
    return "; ".join(sorted(told))
