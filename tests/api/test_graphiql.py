"""The page at /graphql, with and without the bundle."""

from pathlib import Path

import pytest

from gql_server.api import graphiql


def test_with_a_bundle_everything_comes_from_this_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "graphiql.js").touch()
    monkeypatch.setattr(graphiql, "STATIC_DIR", tmp_path)

    assert '<script src="/static/graphiql.js" defer></script>' in graphiql.page()
    assert "//" not in graphiql.page(from_cdn=True).replace("<!doctype html>", "")


def test_without_a_bundle_the_page_says_how_to_build_it_and_loads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphiql, "STATIC_DIR", tmp_path)

    assert "make graphiql" in graphiql.page()
    assert "<script" not in graphiql.page()


def test_without_a_bundle_the_cdn_is_used_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphiql, "STATIC_DIR", tmp_path)

    assert "https://" in graphiql.page(from_cdn=True)
