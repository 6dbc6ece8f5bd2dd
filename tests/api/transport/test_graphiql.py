"""The page at /graphql, with and without the bundle, and as the settings have it."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from gql_server.api.transport import graphiql
from gql_server.settings import Settings


@pytest.fixture(autouse=True)
def static_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty directory in the place of the bundle's."""
    monkeypatch.setattr(graphiql, "STATIC_DIR", tmp_path)
    return tmp_path


def page(*, from_cdn: bool = False, **settings: Any) -> str:
    return bytes(graphiql.page(Settings(**settings), from_cdn=from_cdn).body).decode()


def policy(*, from_cdn: bool = False) -> dict[str, str]:
    value = graphiql.page(Settings(), from_cdn=from_cdn).headers["content-security-policy"]
    directives = (directive.strip().partition(" ") for directive in value.split(";"))
    return {name: sources for name, _, sources in directives}


BUNDLED = """<!doctype html>
<meta property="csp-nonce" nonce="{nonce}">
<script type="module" src="{root}/static/graphiql/graphiql-B3X29AZQ.js"></script>
<div data-url="{root}/graphql" data-introspection="{introspection}"></div>
"""


@pytest.fixture
def bundle(static_dir: Path) -> None:
    """Build a page that names its files as the bundler does."""
    (static_dir / "graphiql").mkdir()
    (static_dir / "graphiql/index.html").write_text(BUNDLED)


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("root_path", ["", "/lab"])
def test_with_a_bundle_everything_comes_from_this_server(root_path: str) -> None:
    assert f'src="{root_path}/static/graphiql/graphiql-B3X29AZQ.js"' in page(root_path=root_path)
    assert f'data-url="{root_path}/graphql"' in page(root_path=root_path)
    for from_cdn in (False, True):
        assert "//" not in page(from_cdn=from_cdn).replace("<!doctype html>", "")
        assert policy(from_cdn=from_cdn)["script-src"] == "'self'"


@pytest.mark.usefixtures("bundle")
def test_styles_take_the_nonce_of_their_own_page_and_nothing_is_unsafe() -> None:
    nonces = set()
    for _ in range(2):
        response = graphiql.page(Settings())
        (nonce,) = re.findall(r'nonce="([^"]+)"', bytes(response.body).decode())
        assert f"style-src 'self' 'nonce-{nonce}';" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
        nonces.add(nonce)
    assert len(nonces) == 2


@pytest.mark.parametrize("graphiql_on", [True, False])
def test_the_style_of_a_page_of_text_is_let_in_by_its_hash(graphiql_on: bool) -> None:
    response = graphiql.page(Settings(graphiql=graphiql_on))
    (rules,) = re.findall("<style>(.*)</style>", bytes(response.body).decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(rules.encode()).digest()).decode()
    assert f"style-src 'self' 'sha256-{digest}';" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(("introspection", "word"), [(True, "on"), (False, "off")])
def test_graphiql_is_told_whether_to_ask_for_the_schema(introspection: bool, word: str) -> None:
    assert f'data-introspection="{word}"' in page(introspection=introspection)


def test_without_a_bundle_the_page_says_how_to_build_it_and_loads_nothing() -> None:
    assert "make graphiql" in page()
    assert "<script" not in page()


def test_without_a_bundle_the_cdn_is_used_when_asked_for_and_may_talk_to_this_server_alone() -> None:
    assert "https://unpkg.com/" in page(from_cdn=True)
    assert "Without the internet nothing comes" in page(from_cdn=True)
    assert policy(from_cdn=True)["script-src"] == "'unsafe-inline' https://unpkg.com"
    assert policy(from_cdn=True)["connect-src"] == "'self'"


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("from_cdn", [False, True])
def test_where_it_is_switched_off_the_page_says_so(from_cdn: bool) -> None:
    assert graphiql.page(Settings(graphiql=False), from_cdn=from_cdn).status_code == 406
    assert "GQL_SERVER_GRAPHIQL=false" in page(graphiql=False, from_cdn=from_cdn)
    assert "<script" not in page(graphiql=False, from_cdn=from_cdn)
