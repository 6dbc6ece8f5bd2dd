"""Strangers: no token, a wrong one, one in the wrong place, other origins; each refused everywhere."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from gql_server import cli
from gql_server.api.transport.access import Access
from gql_server.server.app import create_app
from gql_server.settings import Settings

TOKEN = "swordfish"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
QUERY = {"query": "{ __typename }"}
EVENTS = {"Accept": "text/event-stream"}
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    """Give settings with a token, over an empty database."""
    shutil.copy(migrated, tmp_path / migrated.name)
    return Settings(artifact_dir=tmp_path, token=SecretStr(TOKEN), warm_up=False)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """Give a client of the whole application, with a token to bring."""
    yield from running(settings)


def running(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), "http://localhost", follow_redirects=False) as client:
        yield client


def post(client: TestClient, body: Any = QUERY, **headers: str) -> httpx.Response:
    response: httpx.Response = client.post("/graphql", json=body, headers=headers)
    return response


def code_of(response: httpx.Response) -> str:
    (error,) = response.json()["errors"]
    assert error["message"]
    return str(error["extensions"]["code"])


# ---------------------------------------------------------------------------- the token

STRANGERS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": TOKEN},
    {"Authorization": f"Basic {TOKEN}"},
    {"X-Token": TOKEN},
    {"Cookie": f"token={TOKEN}"},
    {"Cookie": f"gql_server={TOKEN}"},
]


@pytest.mark.parametrize("headers", STRANGERS, ids=json.dumps)
@pytest.mark.parametrize(
    "accept", ["application/json", "application/graphql-response+json", "text/event-stream", "*/*"]
)
def test_who_does_not_bring_the_token_is_unauthenticated(
    client: TestClient, headers: dict[str, str], accept: str
) -> None:
    response = post(client, Accept=accept, **headers)
    assert (response.status_code, code_of(response)) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "json" in response.headers["content-type"]


def test_a_token_in_the_wrong_place_does_not_help(client: TestClient) -> None:
    assert client.get("/graphql", params=QUERY | {"token": TOKEN}).status_code == 401
    assert (
        post(client, QUERY | {"token": TOKEN, "extensions": {"Authorization": f"Bearer {TOKEN}"}}).status_code
        == 401
    )


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_who_brings_it_gets_answers(client: TestClient, accept: str, scheme: str) -> None:
    response = post(client, Accept=accept, Authorization=f"{scheme} {TOKEN}")
    assert response.status_code == 200
    assert '"__typename":"Query"' in response.text


@pytest.mark.parametrize("path", ["/", "/graphql?query={__typename}", "/top-texts/sae_x/a.json", "/nothing"])
def test_everything_else_needs_it_too(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 401
    assert client.get(path, headers=BEARER).status_code != 401


def test_whether_the_server_is_well_may_be_asked_by_anybody(client: TestClient) -> None:
    assert client.get("/healthz").status_code == 200


def test_a_server_without_a_token_lets_everybody_in(settings: Settings) -> None:
    for client in running(settings.model_copy(update={"token": None})):
        assert post(client).status_code == 200


@pytest.mark.parametrize("token", ["two words", "swordfish-é", "a\n"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        Settings(token=SecretStr(token))


def test_only_the_token_itself_is_the_token() -> None:
    access = Access(Settings(token=SecretStr(TOKEN)).token)
    assert access.allows_token(TOKEN)
    for other in ("", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "\ud800"):
        assert not access.allows_token(other)


# ------------------------------------------------------------------------ the WebSocket


def connect(client: TestClient, protocol: str = "graphql-transport-ws", **headers: str) -> Any:
    return client.websocket_connect("ws://localhost/graphql", subprotocols=[protocol], headers=headers)


def closed_with(socket: Any) -> int:
    with pytest.raises(WebSocketDisconnect) as closing:
        socket.receive_json()
    return int(closing.value.code)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "connection_init"},
        {"type": "connection_init", "payload": {}},
        {"type": "connection_init", "payload": {"Authorization": "Bearer wrong"}},
        {"type": "connection_init", "payload": {"Authorization": TOKEN}},
        {"type": "connection_init", "payload": {"Authorization": ["Bearer", TOKEN]}},
        {"type": "connection_init", "payload": {"token": TOKEN}},
    ],
    ids=json.dumps,
)
def test_a_socket_without_the_token_is_closed_as_forbidden(client: TestClient, message: Any) -> None:
    with connect(client) as socket:
        socket.send_json(message)
        assert closed_with(socket) == 4403


def test_a_subscription_before_connection_init_is_closed_as_unauthorized(client: TestClient) -> None:
    message = {"type": "subscribe", "id": "1", "payload": {"query": "subscription { jobs { id } }"}}
    for headers in ({}, BEARER):
        with connect(client, **headers) as socket:
            socket.send_json(message)
            assert closed_with(socket) == 4401


def test_a_socket_brings_the_token_by_its_handshake_or_by_its_first_message(client: TestClient) -> None:
    for headers, payload in ((BEARER, {}), ({}, BEARER), ({}, {"authorization": BEARER["Authorization"]})):
        with connect(client, **headers) as socket:
            socket.send_json({"type": "connection_init", "payload": payload})
            assert socket.receive_json() == {"type": "connection_ack"}
            socket.send_json({"type": "subscribe", "id": "1", "payload": QUERY})
            assert socket.receive_json()["payload"]["data"] == {"__typename": "Query"}


@pytest.mark.parametrize("protocol", ["graphql-ws", "other"])
def test_no_other_protocol_is_spoken(client: TestClient, protocol: str) -> None:
    with connect(client, protocol, **BEARER) as socket:
        assert closed_with(socket) == 4406


# ---------------------------------------------------------------------------- browsers


def test_a_browser_signs_in_once_and_has_a_session(client: TestClient) -> None:
    page = client.get("/graphql", headers=PAGE)
    assert (page.status_code, "<form" in page.text) == (401, True)
    wrong = client.post("/sign-in", data={"token": "wrong"})
    assert (wrong.status_code, "not the token" in wrong.text) == (401, True)
    assert not client.cookies
    signed_in = client.post("/sign-in", data={"token": TOKEN})
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/graphql")
    cookie = signed_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/graphql", headers=PAGE).status_code == 200
    assert post(client).json()["data"] == {"__typename": "Query"}
    with connect(client) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}


def test_the_forms_address_loaded_again_leads_back_to_the_page(client: TestClient) -> None:
    response = client.get("/sign-in", headers=PAGE)
    assert (response.status_code, response.headers["location"]) == (303, "/graphql")


def test_a_browser_is_led_to_the_page_that_it_asked_for(client: TestClient) -> None:
    page = client.get('/compare?sae=a&sae=b c"', headers=PAGE)
    assert page.status_code == 401
    (action,) = re.findall(r'action="([^"]+)"', page.text)
    wrong = client.post(action, data={"token": "wrong"})
    assert f'action="{action}"' in wrong.text
    signed_in = client.post(action, data={"token": TOKEN})
    assert signed_in.headers["location"] == "/compare?sae=a&sae=b%20c%22"


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", ""]
)
def test_signing_in_leads_to_this_server_alone(client: TestClient, elsewhere: str) -> None:
    signed_in = client.post("/sign-in", params={"next": elsewhere}, data={"token": TOKEN})
    assert signed_in.headers["location"] == "/graphql"


def test_a_session_of_another_token_is_none(client: TestClient, settings: Settings) -> None:
    client.post("/sign-in", data={"token": TOKEN})
    other = Access(Settings(token=SecretStr("another")).token)
    (value,) = client.cookies.values()
    assert value != other.session
    assert post(client, Cookie=f"{other.cookie}={other.session}").status_code == 401


@pytest.mark.parametrize("body", [b"", b"token", b"token=" + b"x" * 20_000, b"\xff" * 50])
def test_a_form_that_is_none_does_not_sign_in(client: TestClient, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/sign-in", content=body, headers=headers).status_code == 401


def test_nothing_but_a_page_is_shown_in_a_frame_and_nothing_is_guessed_at(client: TestClient) -> None:
    for response in (post(client, **BEARER), post(client), client.get("/graphql", headers=BEARER | PAGE)):
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert post(client, **BEARER).headers["x-content-type-options"] == "nosniff"


def test_files_that_are_not_built_are_not_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gql_server.api.transport.graphiql.STATIC_DIR", tmp_path / "nothing")
    for client in running(settings):
        assert client.get("/static/graphiql.js").status_code == 401
        assert client.get("/static/graphiql.js", headers=BEARER).status_code == 404


def test_graphiql_can_be_switched_off(settings: Settings) -> None:
    for client in running(settings.model_copy(update={"graphiql": False})):
        for accept in ("text/html", PAGE["Accept"]):
            response = client.get("/graphql", headers=BEARER | {"Accept": accept})
            assert (response.status_code, "GQL_SERVER_GRAPHIQL" in response.text) == (406, True)
        answer = client.get("/graphql", params=QUERY, headers=BEARER | PAGE)
        assert answer.json()["data"] == {"__typename": "Query"}


# ----------------------------------------------------------------------------- origins

FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:9999"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=json.dumps)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_pages_of_other_origins_are_refused_even_with_the_token(
    client: TestClient, headers: dict[str, str], accept: str
) -> None:
    responses = [
        post(client, Accept=accept, **headers, **BEARER),
        client.get("/graphql", params=QUERY, headers={"Accept": accept} | headers | BEARER),
        client.post("/sign-in", data={"token": TOKEN}, headers=headers),
    ]
    for response in responses:
        assert (response.status_code, code_of(response)) == (403, "FORBIDDEN")
        assert "access-control-allow-origin" not in response.headers
    with pytest.raises(WebSocketDisconnect), connect(client, **headers, **BEARER):
        pass


def test_the_servers_own_pages_and_links_to_them_are_let_in(client: TestClient) -> None:
    assert post(client, Origin="http://localhost", **BEARER).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/graphql", headers=link | PAGE | BEARER).status_code == 200
    frame = link | {"Sec-Fetch-Dest": "iframe"}
    assert client.get("/graphql", headers=frame | PAGE | BEARER).status_code == 403


@pytest.mark.parametrize("setting", ["https://lab.example", "https://Lab.example:443", "*"])
def test_an_allowed_origin_gets_its_headers_and_sockets(settings: Settings, setting: str) -> None:
    origin = "https://lab.example"
    allowed = "*" if setting == "*" else origin
    for client in running(settings.model_copy(update={"allowed_origins": (setting,)})):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = client.options("/graphql", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == allowed
        answer = post(client, Origin=origin, **BEARER)
        assert answer.headers["access-control-allow-origin"] == allowed
        refused = post(client, Origin=origin)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, allowed)
        with connect(client, Origin=origin, **BEARER) as socket:
            socket.send_json({"type": "connection_init"})
            assert socket.receive_json() == {"type": "connection_ack"}
        if allowed != "*":
            asked["Origin"] = "https://evil.example"
            assert client.options("/graphql", headers=asked).status_code == 400


TRACED = "traceparent,tracestate,baggage"
APOLLO = (
    "apollographql-client-name,apollographql-client-version,x-apollo-operation-name,x-apollo-operation-id"
)


@pytest.mark.parametrize("headers", [TRACED, APOLLO, "last-event-id,cache-control", "x-of-tomorrow"])
def test_a_page_of_an_allowed_origin_may_send_what_its_libraries_send(
    settings: Settings, headers: str
) -> None:
    allowed = settings.model_copy(update={"allowed_origins": ("https://lab.example",)})
    for client in running(allowed):
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
        preflight = client.options("/graphql", headers=asked | {"Origin": "https://lab.example"})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-headers"] == headers
        other = client.options("/graphql", headers=asked | {"Origin": "https://other.example"})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers


def test_a_page_of_an_allowed_origin_may_reach_a_server_in_a_local_network(settings: Settings) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
        "Origin": "https://lab.example",
    }
    for origins, status in ((("https://lab.example",), 200), (("*",), 400)):
        for client in running(settings.model_copy(update={"allowed_origins": origins})):
            assert client.options("/graphql", headers=asked).status_code == status


# ---------------------------------------------------------------------------- path prefix


@pytest.mark.parametrize("prefix", ["", "/lab/sae"], ids=["taken off", "left"])
def test_pages_behind_a_path_prefix_lead_back_under_it(settings: Settings, prefix: str) -> None:
    """Proxies either take the prefix off before they pass a request on, or leave it."""
    for client in running(settings.model_copy(update={"root_path": "/lab/sae"})):
        page = client.get(f"{prefix}/graphql", headers=PAGE)
        assert (page.status_code, 'action="/lab/sae/sign-in?next=/graphql"' in page.text) == (401, True)
        wrong = client.post(f"{prefix}/sign-in", data={"token": "no"})
        assert 'action="/lab/sae/sign-in?next=/graphql"' in wrong.text
        signed_in = client.post(f"{prefix}/sign-in", data={"token": TOKEN})
        assert signed_in.headers["location"] == "/lab/sae/graphql"
        signed_in = client.post(f"{prefix}/sign-in?next=/jobs", data={"token": TOKEN})
        assert signed_in.headers["location"] == "/lab/sae/jobs"
        assert client.get(f"{prefix}/sign-in").headers["location"] == "/lab/sae/graphql"
        page = client.get(f"{prefix}/graphql", headers=PAGE)
        assert page.status_code == 200
        addresses = re.findall(r'(?:href|src|data-url)="([^"]+)"', page.text)
        assert all(address.startswith(("/lab/sae/", "data:")) for address in addresses)
        assert client.get(f"{prefix}/healthz").status_code == 200
        assert post(client).json()["data"] == {"__typename": "Query"}


def test_a_prefix_opens_nothing_that_needs_a_token(settings: Settings) -> None:
    for client in running(settings.model_copy(update={"root_path": "/healthz"})):
        assert client.post("/graphql", json=QUERY).status_code == 401
        assert client.get("/healthz/metrics").status_code == 401
        assert client.get("/healthz/healthz").status_code == 200


def test_another_path_that_begins_alike_is_not_the_prefix(settings: Settings) -> None:
    for client in running(settings.model_copy(update={"root_path": "/graph"})):
        assert post(client, **BEARER).json()["data"] == {"__typename": "Query"}


@pytest.mark.parametrize("path", ["lab", "/lab/", "//lab", "/lab?x", '/"onload="'])
def test_a_prefix_that_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        Settings(root_path=path)


def test_without_allowed_origins_a_preflight_is_refused(client: TestClient) -> None:
    asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/graphql", headers=asked).status_code == 403


def test_a_setting_that_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("GQL_SERVER_ALLOWED_ORIGINS", "https://lab.example/path, lab")
    monkeypatch.setattr("sys.argv", ["gql-server", "serve"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "allowed_origins" in capsys.readouterr().err


# ------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize("host", ["evil.example", "192.168.0.7", "localhost.evil.example", ""])
def test_without_a_token_only_loopback_names_are_answered(settings: Settings, host: str) -> None:
    for client in running(settings.model_copy(update={"token": None})):
        response = post(client, Host=host)
        assert (response.status_code, code_of(response)) == (421, "FORBIDDEN")
        for own in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert post(client, Host=own).status_code == 200


def test_with_a_token_any_name_is(client: TestClient) -> None:
    assert post(client, Host="lab.example", **BEARER).status_code == 200
    assert post(client, Host="lab.example").status_code == 401


@pytest.mark.parametrize(
    ("environment", "may"),
    [
        ({}, False),
        ({"GQL_SERVER_TOKEN": TOKEN}, True),
        ({"GQL_SERVER_ALLOW_WITHOUT_TOKEN": "true"}, True),
        ({"GQL_SERVER_TOKEN": ""}, False),
    ],
)
def test_listening_beyond_loopback_needs_a_token_or_a_decision(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, environment: dict[str, str], may: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    served: list[Settings] = []

    def serve(settings: Settings, _options: Any) -> int:
        served.append(settings)
        return 0

    monkeypatch.setattr(cli, "_serve", serve)
    monkeypatch.setattr("sys.argv", ["gql-server", "serve", "--host", "0.0.0.0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code == 0, bool(served)) == (may, may)
    assert may or "TOKEN" in capsys.readouterr().err


def test_the_token_is_not_shown_with_the_settings(settings: Settings) -> None:
    assert TOKEN not in f"{settings} {settings!r}"


# --------------------------------------------------------------------------------- signing out


def test_signing_out_takes_the_session_from_the_browser(client: TestClient) -> None:
    client.post("/sign-in", data={"token": TOKEN})
    assert post(client).status_code == 200
    page = client.get("/sign-out")
    assert (page.status_code, 'action="/sign-out"' in page.text) == (200, True)
    assert post(client).status_code == 200, "looking at the page ends nothing"
    left = client.post("/sign-out", follow_redirects=False)
    assert (left.status_code, left.headers["location"]) == (303, "/graphql")
    assert post(client).status_code == 401


def test_a_page_of_another_origin_signs_nobody_out(client: TestClient) -> None:
    client.post("/sign-in", data={"token": TOKEN})
    refused = client.post("/sign-out", headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403 and post(client).status_code == 200


@pytest.mark.parametrize("setting", ["proxy.example", "10.0.0.0/99", "10.0.0.7,x"])
def test_a_proxy_is_an_address_or_a_network(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("GQL_SERVER_TRUSTED_PROXIES", setting)
    with pytest.raises(ValidationError, match="no address or network"):
        Settings()
