"""The page that a browser finds at /graphql: GraphiQL from this server's own files, without internet."""

import secrets
from pathlib import Path

from starlette.responses import HTMLResponse
from strawberry.http.ides import get_graphql_ide_html

from gql_server.api.transport.inline_styles import InlineStyle
from gql_server.settings import Settings

STATIC_DIR = Path(__file__).parents[1] / "static"
"""Where the pages' bundles are, each in a folder of its own; served at /static."""

_NONCE_BYTES = 16

_OWN_FILES_ALONE = (
    "default-src 'self'; script-src 'self'; style-src 'self' {styles}; font-src 'self' data:; "
    "img-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""A content security policy; ``{styles}`` vouches for style elements: a nonce, or a hash of their text."""

_CDN_TOO = (
    "default-src 'none'; script-src 'unsafe-inline' https://unpkg.com; "
    "style-src 'unsafe-inline' https://unpkg.com; font-src data:; img-src data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""For Strawberry's page, whose own script is in it. What comes from the CDN can talk to this server alone."""

_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>GraphiQL: gql-server</title>
    <link rel="icon" href="data:,">
    {head}
  </head>
  <body>
    {body}
  </body>
</html>
"""

_TEXT_STYLE = InlineStyle("""
      :root { color-scheme: light dark }
      body { font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
      button { font: inherit; padding: .5rem 1rem }
    """)

_TEXT_ALONE = _OWN_FILES_ALONE.format(styles=_TEXT_STYLE.source)

_NOT_BUILT = _PAGE.format(
    head=_TEXT_STYLE.element,
    body="""<h1>GraphiQL is not built yet</h1>
    <p>The API is up: send <code>POST</code> requests to this address.</p>
    <p>To explore it here, run <code>make graphiql</code> in the project's directory and load this page again;
    it takes Node.js from PyPI where it is missing.</p>
    <form method="get"><button name="from" value="cdn">Load GraphiQL from a CDN instead</button></form>
    <p>The button fetches its scripts from unpkg.com, which then learns your address; your queries go to this
    server alone.</p>""",
)

_SWITCHED_OFF = _PAGE.format(
    head=_TEXT_STYLE.element,
    body="""<h1>gql-server</h1>
    <p>The API is up, and this is its address: GraphQL clients send <code>POST</code> requests and open
    WebSockets here.</p>
    <p>There is no GraphiQL to explore it with, because the server was started with
    <code>GQL_SERVER_GRAPHIQL=false</code>.</p>""",
)


def page(settings: Settings, *, from_cdn: bool = False) -> HTMLResponse:
    """Return GraphiQL where its bundle is built and the settings want it, else what to do instead.

    Args:
        settings: Without introspection, GraphiQL says so in the place of the documentation.
        from_cdn: Without a bundle, load GraphiQL from a CDN; the page's button sends ``?from=cdn``.
    """
    if not settings.graphiql:
        return _html(_SWITCHED_OFF, status=406)
    if is_built():
        introspection = "on" if settings.introspection else "off"
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        text = _bundled_page().read_text().replace("{root}", settings.root_path)
        text = text.replace("{introspection}", introspection).replace("{nonce}", nonce)
        return _html(text, policy=_OWN_FILES_ALONE.format(styles=f"'nonce-{nonce}'"))
    return _html(_from_cdn(), policy=_CDN_TOO) if from_cdn else _html(_NOT_BUILT)


def is_built() -> bool:
    """Say whether the bundle is there."""
    return _bundled_page().is_file()


def _bundled_page() -> Path:
    """Return what ``graphiql/build.mjs`` writes last; it names the other files."""
    return STATIC_DIR / "graphiql/index.html"


def _from_cdn() -> str:
    waiting = "Loading from unpkg.com … Without the internet nothing comes: run <code>make graphiql</code>."
    return get_graphql_ide_html("graphiql").replace(">Loading...<", f">{waiting}<")


def _html(text: str, *, status: int = 200, policy: str = _TEXT_ALONE) -> HTMLResponse:
    return HTMLResponse(text, status, {"Content-Security-Policy": policy})
