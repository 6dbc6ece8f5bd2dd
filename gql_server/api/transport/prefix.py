"""The path under which a proxy shows this server."""

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send


class PathPrefix:
    """ASGI middleware that takes the prefix off, whether the proxy has done so or not.

    Routes see it as ASGI's ``root_path``; what leads to this server puts it before its own paths.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if self._prefix and scope["type"] in ("http", "websocket"):
            scope = self._with_prefix(scope)
        await self._app(scope, receive, send)

    def _with_prefix(self, scope: Scope) -> dict[str, Any]:
        path = scope["path"]
        # By ASGI's rules the whole path is there, the prefix included.
        whole = path if f"{path}/".startswith(f"{self._prefix}/") else self._prefix + path
        return {**scope, "path": whole, "root_path": self._prefix}
