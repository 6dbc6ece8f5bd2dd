"""A page on which a browser presents the access token once, and gets a session cookie for it."""

import asyncio
import re
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gql_server.api.transport.access import CHALLENGE, Access
from gql_server.api.transport.inline_styles import InlineStyle
from gql_server.limits.rate_limits import Rates

PATH = "/sign-in"
OUT_PATH = "/sign-out"
_MAX_FORM_BYTES = 10_000
_DEFAULT = "/graphql"

_STYLE = InlineStyle("""
      :root { color-scheme: light dark }
      body { font: 1rem/1.5 sans-serif; max-width: 24rem; margin: 15vh auto; padding: 0 1rem }
      input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin: .25rem 0 }
      .wrong { color: light-dark(#b00020, #ff8a80) }
    """)
_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{title}: gql-server</title>
    <link rel="icon" href="data:,">
    {style}
  </head>
  <body>
    <h1>gql-server</h1>
    {form}
    {message}
  </body>
</html>
"""
_SIGN_IN = """<form method="post" action="{root}/sign-in?next={next}">
      <label for="token">Access token (<code>GQL_SERVER_TOKEN</code> of the server)</label>
      <input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
      <button>Sign in</button>
    </form>"""
_SIGN_OUT = """<form method="post" action="{root}/sign-out"><button autofocus>Sign out</button></form>"""
_WRONG = '<p class="wrong" role="alert">This is not the token.</p>'

_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_STYLE.source}; img-src data:; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}


def page(root_path: str, asked: str = "", *, wrong: bool = False) -> Response:
    """Return the page; it stands in the place of what was asked for, with status 401.

    Args:
        root_path: Path under which a proxy shows this server.
        asked: Where signing in leads, a path with its query; /graphql if left out.
        wrong: Say that the token was wrong.
    """
    form = _SIGN_IN.format(root=root_path, next=quote(asked or _DEFAULT))
    html = _page("Sign in", form, _WRONG if wrong else "")
    return HTMLResponse(html, status_code=401, headers=_HEADERS | CHALLENGE)


def sign_out(request: Request, access: Access) -> Response:
    """Show a button, and take the session away from the browser that has pressed it."""
    root_path: str = request.scope["root_path"]
    if request.method == "GET":
        form = _SIGN_OUT.format(root=root_path)
        return HTMLResponse(_page("Sign out", form), headers=_HEADERS)
    response = RedirectResponse(f"{root_path}/graphql", status_code=303)
    response.delete_cookie(access.cookie, httponly=True, samesite="strict")
    return response


async def sign_in(request: Request, access: Access, rates: Rates) -> Response:
    """Take the token from the page's form, and lead whoever loads its address again back to the page."""
    root_path: str = request.scope["root_path"]
    asked = _own_path(request.query_params.get("next", ""))
    if request.method == "GET":
        return RedirectResponse(f"{root_path}{asked}", status_code=303)
    form: dict[str, Any] = {}
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) <= _MAX_FORM_BYTES:
        async with request.form(max_files=0, max_fields=10) as sent:
            form = dict(sent)
    token = form.get("token")
    if not isinstance(token, str) or not access.allows_token(token):
        await asyncio.sleep(rates.guessed(request.client.host if request.client else ""))
        return page(root_path, asked, wrong=True)
    response = RedirectResponse(f"{root_path}{asked}", status_code=303)
    is_https = request.url.scheme == "https"
    response.set_cookie(access.cookie, access.session, httponly=True, samesite="strict", secure=is_https)
    return response


def _own_path(asked: str) -> str:
    """Return a path of this server to go to; browsers take ``//host`` and ``/\\host`` for another one."""
    return asked if re.fullmatch(r"/(?![/\\])[!-~]*", asked) else _DEFAULT


def _page(title: str, form: str, message: str = "") -> str:
    return _PAGE.format(style=_STYLE.element, title=title, form=form, message=message)
