"""The explorer's pages: one HTML file for all of its routes, whose script shows what the address names."""

import html
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from gql_server.api.transport.graphiql import STATIC_DIR
from gql_server.api.transport.negotiation import names
from gql_server.settings import Settings

DIRECTORY = STATIC_DIR / "explorer"
"""Where ``npm run build`` of ``explorer`` puts the bundle; served at /static/explorer."""

ROUTES = (
    "/",
    "/start",
    "/jobs",
    "/jobs/{id}",
    "/datasets",
    "/capture",
    "/train",
    "/runs/{id}",
    "/models/{id}",
    "/compare",
    "/saes/{id}",
    "/saes/{id}/neurons/{index}",
    "/saes/{id}/play",
    "/saes/{id}/contrast",
    "/saes/{id}/concepts",
    "/server",
)
"""Addresses that show the explorer, so that a link to a page and a reload lead to it."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    # The names of scripts in it change with each build.
    "Cache-Control": "no-cache",
}

_NOT_BUILT = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>Explorer: gql-server</title>
    <link rel="icon" href="data:,">
  </head>
  <body>
    <h1>The explorer is not built yet</h1>
    <p>The API is up: GraphQL clients send <code>POST</code> requests to <code>{root}/graphql</code>.</p>
    <p>For these pages, install Node.js 20.19 or later, then run <code>make explorer</code> in the project's
    directory and load this page again.</p>
    <p>Until then: <a href="{root}/graphql">GraphiQL</a></p>
  </body>
</html>
"""


def page(request: Request, settings: Settings) -> Response:
    """Return the explorer, or how to build it. Where it is switched off, ``/`` leads to /graphql."""
    # Below a mount root_path has its path, too.
    root_path: str = request.scope.get("app_root_path", request.scope["root_path"])
    if not settings.explorer:
        if request.scope["route"].path == "/":
            return RedirectResponse(f"{root_path}/graphql")
        return Response(status_code=404)
    try:
        text = (DIRECTORY / "index.html").read_text()
    except FileNotFoundError:
        return HTMLResponse(_NOT_BUILT.format(root=root_path), headers=_HEADERS)
    return HTMLResponse(with_root_path(text, root_path), headers=_HEADERS)


def nowhere(request: Request, _: Exception, settings: Settings) -> Response:
    """Return status 404: to a browser with the explorer, which leads on, else with a line of text."""
    is_navigation = request.method == "GET" and names(request.headers.get("accept"), "text/html")
    if is_navigation and settings.explorer and is_built(DIRECTORY):
        shown = page(request, settings)
        shown.status_code = 404
        return shown
    return PlainTextResponse("Not Found", 404)


def with_root_path(text: str, root_path: str) -> str:
    """Return the page with the addresses of its files and its ``data-root-path`` under a proxy's path."""
    root = html.escape(root_path)
    text = text.replace('="./', f'="{root}/static/explorer/')
    return text.replace('data-root-path=""', f'data-root-path="{root}"')


def is_built(directory: Path = DIRECTORY) -> bool:
    """Say whether the bundle is there."""
    return (directory / "index.html").is_file()
