"""The page that a browser finds at /graphql: GraphiQL from this server's own files, without internet."""

from pathlib import Path

from strawberry.http.ides import get_graphql_ide_html

STATIC_DIR = Path(__file__).parent / "static"
"""Where ``frontend/build.mjs`` puts the bundle; served at /static."""

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "img-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""For every answer of ``page`` but the one from the CDN; the editor writes its own style elements."""

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

_BUNDLED = _PAGE.format(
    head="""<link rel="stylesheet" href="/static/graphiql.css">
    <style>body { margin: 0 } #graphiql { height: 100dvh }</style>
    <script src="/static/graphiql.js" defer></script>""",
    body='<div id="graphiql" data-url="/graphql">Loading…</div>',
)

_NOT_BUILT = _PAGE.format(
    head="<style>body { font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 3rem auto }</style>",
    body="""<h1>GraphiQL is not built yet</h1>
    <p>The API is up: send <code>POST</code> requests to this address.</p>
    <p>To explore it here, install Node.js 20 or later, then run <code>make graphiql</code> in the
    project's directory and load this page again.</p>
    <form method="get"><button name="from" value="cdn">Load GraphiQL from a CDN instead</button></form>
    <p>The button fetches its scripts from unpkg.com, which then learns your address; your queries go to this
    server alone.</p>""",
)


def page(*, from_cdn: bool = False) -> str:
    """Return the HTML: GraphiQL where its bundle is built, else how to build it.

    Args:
        from_cdn: Without a bundle, return one that loads GraphiQL from a CDN; its button sends ``?from=cdn``.
    """
    if is_built():
        return _BUNDLED
    return get_graphql_ide_html("graphiql") if from_cdn else _NOT_BUILT


def is_built() -> bool:
    """Say whether the bundle is there."""
    return (STATIC_DIR / "graphiql.js").is_file()
