"""Guesses of the token, by the hundred at once."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from tests.attack.attack import Scale, attack
from tests.attack.connecting import Connection, head, open_many
from tests.attack.site import Site

QUICK_SECONDS = 0.5
QUERY = b'{"query": "{ __typename }"}'
FORM = b"token=wrong"


async def outcome(connection: Connection) -> str:
    """Return an answer's status, and whether it was late."""
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        line = await connection[0].readline()
    except OSError:
        line = b""
    if not line:
        return "ended"
    return line.split()[1].decode() + (" late" if clock() - began > QUICK_SECONDS else "")


async def guesses(site: Site, scale: Scale, asked: bytes) -> str:
    """Return what becomes of many requests, in the time that is given to them."""
    async with AsyncExitStack() as stack:
        opened = await open_many(site, stack, min(scale.connections, 500), asked)
        waiting = [asyncio.ensure_future(outcome(connection)) for connection in opened]
        done, pending = await asyncio.wait(waiting, timeout=2 * scale.hold_seconds)
        told = Counter(one.result() for one in done) + Counter({"not answered yet": len(pending)})
        for one in pending:
            one.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    assert not any(status.startswith(("2", "3")) for status in told)
    return ", ".join(f"{number} {what}" for what, number in sorted(told.items()))


@attack("14", "guesses of the token by the hundred at once")
async def by_header(site: Site, scale: Scale) -> str:
    """Each is wrong."""
    asked = head(
        site,
        "POST /graphql HTTP/1.1",
        "Authorization: Bearer wrong",
        "Content-Type: application/json",
        f"Content-Length: {len(QUERY)}",
    )
    return await guesses(site, scale, asked + QUERY)


@attack("14", "guesses of the token on the sign-in page")
async def by_form(site: Site, scale: Scale) -> str:
    """Likewise."""
    form = "Content-Type: application/x-www-form-urlencoded"
    asked = head(site, "POST /sign-in HTTP/1.1", form, f"Content-Length: {len(FORM)}")
    return await guesses(site, scale, asked + FORM)
