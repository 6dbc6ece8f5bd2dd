"""Another client of the server, in a process of its own: asks a small query again and again.

``python -m tests.attack.bystander HOST PORT TOKEN`` asks until its standard input ends, then prints how long
each answer took, in milliseconds, as a JSON list.
"""

import asyncio
import json
import sys
import time

INTERVAL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
QUERY = b'{"query": "{ server { version } jobs(first: 1) { totalCount } }"}'


async def ask(host: str, port: int, token: str) -> bool:
    """Ask once, on a connection of its own; return whether there was an answer."""
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(QUERY)}\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(head.encode() + QUERY)
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in answer.split(b"\r\n", 1)[0] and b'"totalCount"' in answer


async def ask_again_and_again(host: str, port: int, token: str) -> list[float]:
    """Return the milliseconds that each answer took; one that did not come counts as the patience for it."""
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    waits: list[float] = []
    while not ended.done():
        began = time.perf_counter()
        good = await ask(host, port, token)
        waits.append(1000 * (time.perf_counter() - began if good else PATIENCE_SECONDS))
        await asyncio.wait([ended], timeout=INTERVAL_SECONDS)
    return waits


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask_again_and_again(sys.argv[1], int(sys.argv[2]), sys.argv[3]))))
