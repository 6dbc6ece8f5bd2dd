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


@attack("10", "open operations that hold 4 MB each")
async def held_messages(site: Site, scale: Scale) -> str:
    """As many as a socket may have, on several."""
    headers = {"Authorization": f"Bearer {site.token}"}
    url = f"ws://{site.host}:{site.port}/graphql"
    unused = "x" * min(scale.bytes, 4_000_000)
    payload = {"query": "subscription { jobs { id } }", "variables": {"unused": unused}}
    refused: list[str] = []
    async with AsyncExitStack() as stack:
        for _ in range(4):
            socket = await stack.enter_async_context(
                connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers)  # type: ignore[list-item]
            )
            await socket.send('{"type": "connection_init"}')
            for number in range(min(100, 5 * scale.times)):
                await socket.send(json.dumps({"id": str(number), "type": "subscribe", "payload": payload}))
            await socket.send('{"type": "ping"}')
            while (message := json.loads(await socket.recv()))["type"] != "pong":
                refused.extend(error["message"] for error in message.get("payload", []))
        await asyncio.sleep(scale.hold_seconds)
    return f"{len(refused)} refused: {refused[0][:80]}" if refused else "none refused"


@attack("8", "a hundred answers for each socket that reads nothing")
async def unread_on_sockets(site: Site, scale: Scale) -> str:
    """The schema, as long as a document may make it."""
    headers = {"Authorization": f"Bearer {site.token}"}
    url = f"ws://{site.host}:{site.port}/graphql"
    kinds = "types { name description fields { name description args { name description } } }"
    payload = {"query": f"{{ a: __schema {{ {kinds} }} b: __schema {{ {kinds} }} }}"}
    async with AsyncExitStack() as stack:
        sockets = []
        for _ in range(max(1, scale.connections // 250)):
            socket = await connect(
                url,
                subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
                additional_headers=headers,
                max_queue=1,
                max_size=None,
            )
            stack.callback(socket.transport.abort)
            await socket.send('{"type": "connection_init"}')
            for number in range(min(100, 5 * scale.times)):
                await socket.send(json.dumps({"id": str(number), "type": "subscribe", "payload": payload}))
            sockets.append(socket)
        await asyncio.sleep(4 * scale.hold_seconds)
        return f"{len(sockets)} sockets that read nothing"


@attack("6", "a revision that is a path")
async def revision(site: Site, scale: Scale) -> str:
    """What a client says must not be joined to a path."""
    mutation = """mutation ($revision: String!) { addLanguageModel(input: {name: "r", source: {huggingFace:
      {repository: "a/b", revision: $revision}}}) { __typename ... on Error { message } } }"""
    told = {refusal_of(await site.ask(mutation, revision=one)) for one in ("/dev/zero", "../../x", "a/../b")}
    return "; ".join(sorted(told))
