"""Requests over HTTP that are malformed, too large or unclear, and what they are told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from gql_server.api.operations.request_checks import NO_OPERATION_NAME
from gql_server.api.transport import guard, intake, view
from gql_server.limits import fair_turns
from gql_server.services.app_context import AppContext
from tests.support.server_process import RunningServer
from tests.support.serving import client_of, endpoint

MAX_UPLOAD_BYTES = 20 * 2**20
MAX_BODY_BYTES = 1_000_000
GRAPHQL_JSON = "application/graphql-response+json"
JSON = {"Content-Type": "application/json"}
LONE = "\\ud800"
"""Half of a surrogate pair, as JSON writes it."""


@pytest.fixture
async def client(server: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the endpoint behind its guard."""
    transport = httpx.ASGITransport(
        endpoint(server, max_upload_bytes=MAX_UPLOAD_BYTES, max_body_bytes=MAX_BODY_BYTES)
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def post(client: httpx.AsyncClient, body: str) -> httpx.Response:
    return await client.post("/graphql", content=body, headers=JSON)


async def error_of(client: httpx.AsyncClient, query: str, variables: str = "{}") -> dict[str, Any]:
    """Return the only error of an operation."""
    response = await post(client, f'{{"query": {json.dumps(query)}, "variables": {variables}}}')
    assert response.status_code == 200, response.text
    (error,) = response.json()["errors"]
    return dict(error)


# ---------------------------------------------------------------------------------- unicode


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query ($id: ID!) { sae(id: $id) { id } }", f'{{"id": "{LONE}"}}'),
        ("query ($id: ID!) { node(id: $id) { id } }", f'{{"id": "sae_{LONE}"}}'),
        ("query ($after: String) { saes(after: $after) { totalCount } }", f'{{"after": "{LONE}"}}'),
        (
            "mutation ($in: SetConceptInput!) { setConcept(input: $in) { __typename } }",
            f'{{"in": {{"saeId": "a", "neuronIndex": 0, "name": "{LONE}"}}}}',
        ),
    ],
)
async def test_text_that_is_no_unicode_is_refused(
    client: httpx.AsyncClient, query: str, variables: str
) -> None:
    error = await error_of(client, query, variables)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert "valid Unicode" in error["message"]


@pytest.mark.parametrize("quoted", ['"\ud800"', '"""\ud800"""', r'"\ud800"', r'"\u{D800}"'])
async def test_a_document_with_text_that_is_no_unicode_is_a_syntax_error(
    client: httpx.AsyncClient, quoted: str
) -> None:
    error = await error_of(client, f"{{ sae(id: {quoted}) {{ id }} }}")
    assert error["message"].startswith("Syntax Error: Invalid")


async def test_an_emoji_written_as_a_pair_of_escapes_is_text(client: httpx.AsyncClient) -> None:
    body = r'{"query": "query ($id: ID!) { sae(id: $id) { id } }", "variables": {"id": "\ud83d\ude00"}}'
    assert (await post(client, body)).json()["data"] == {"sae": None}


# -------------------------------------------------------------------------------- malformed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"5",
        b'"x"',
        b"[]",
        b'[{"query": "{ __typename }"}]',
        b'{"query": "\xff"}',
        b"[" * 200_000,
        b'{"query": "{ __typename }", "variables": ' + b"[" * 200_000 + b"}",
        b'{"query": "{ __typename }", "variables": {"a": ' + b"9" * 5000 + b"}}",
        b'{"query": 5}',
        b'{"query": "{ __typename }", "variables": []}',
        b'{"query": "{ __typename }", "extensions": 1}',
        b'{"query": "{ __typename }", "operationName": 5}',
        b'{"query": "{ __typename }", "operationName": "\\ud800"}',
        b'{"query": "query a { __typename }", "operationName": "b"}',
        b"{}",
    ],
    ids=lambda body: body[:50].decode(errors="replace"),
)
async def test_a_body_that_is_no_request_is_answered_with_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/graphql", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.text


@pytest.mark.parametrize("variables", ["[" * 20_000, "5", "{", '{"a": "\\ud800'])
async def test_variables_of_a_get_that_are_no_object_are_answered_with_400(
    client: httpx.AsyncClient, variables: str
) -> None:
    response = await client.get("/graphql", params={"query": "{ __typename }", "variables": variables})
    assert response.status_code == 400


UPLOAD = {"query": "query ($i: ID!) { sae(id: $i) { id } }", "variables": {"i": None}}


@pytest.mark.parametrize(
    ("operations", "map_"),
    [
        (UPLOAD, {"0": ["variables.i.layers.x"]}),
        (UPLOAD, {"0": ["variables.none.x"]}),
        (UPLOAD, {"0": ["variables"]}),
        (UPLOAD, {"0": ["query"]}),
        (UPLOAD, {"0": ["operationName"]}),
        (UPLOAD, {"0": [1]}),
        (UPLOAD, {"0": [None]}),
        (UPLOAD, {"0": None}),
        (UPLOAD, {"0": 1}),
        (UPLOAD, {"1": ["variables.i"]}),
        (UPLOAD, []),
        (UPLOAD, None),
        (UPLOAD, "x"),
        ({"query": "", "variables": {"i": []}}, {"0": ["variables.i.0"]}),
        ({"query": "", "variables": {"i": []}}, {"0": ["variables.i.x"]}),
        ("x", {"0": ["variables.i"]}),
        (None, {"0": ["variables.i"]}),
        (5, {}),
        ([], {}),
    ],
)
async def test_a_wrong_multipart_request_is_answered_with_400(
    client: httpx.AsyncClient, operations: Any, map_: Any
) -> None:
    form = {"operations": json.dumps(operations), "map": json.dumps(map_)}
    assert (await multipart(client, form, {"0": b"text"})).status_code == 400


@pytest.mark.parametrize("form", [{}, {"operations": "{"}, {"operations": "[" * 100_000}, {"map": "{}"}])
async def test_a_multipart_request_without_readable_operations_is_answered_with_400(
    client: httpx.AsyncClient, form: dict[str, str]
) -> None:
    assert (await multipart(client, form, {"0": b"text"})).status_code == 400


@pytest.mark.parametrize("name", ["operations", "map"])
async def test_operations_or_map_as_a_file_are_answered_with_400(
    client: httpx.AsyncClient, name: str
) -> None:
    form = {"operations": json.dumps(UPLOAD), "map": '{"0": ["variables.i"]}'}
    content = form.pop(name).encode()
    assert (await multipart(client, form, {"0": b"text", name: content})).status_code == 400


async def test_a_body_that_is_no_form_at_all_is_refused_in_graphqls_shape(
    running_server: RunningServer,
) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "GraphQL-Require-Preflight": "1"}
    async with httpx.AsyncClient(base_url=running_server.url) as client:
        response = await client.post("/graphql", content=b'{"query": "{ __typename }"}', headers=headers)

    (error,) = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"]) == (400, "INVALID_INPUT")


async def multipart(
    client: httpx.AsyncClient, form: dict[str, str], files: dict[str, bytes]
) -> httpx.Response:
    headers = {"GraphQL-Require-Preflight": "1"}
    parts = {name: (f"{name}.txt", content) for name, content in files.items()}
    return await client.post("/graphql", data=form, files=parts, headers=headers)


async def test_a_file_where_text_belongs_is_bad_input(client: httpx.AsyncClient) -> None:
    form = {"operations": json.dumps(UPLOAD), "map": '{"0": ["variables.i"]}'}
    (error,) = (await multipart(client, form, {"0": b"text"})).json()["errors"]
    assert error["extensions"]["code"] == "INVALID_INPUT"


# ------------------------------------------------------------------------------------- size


async def test_a_json_body_above_its_limit_is_answered_with_413(
    client: httpx.AsyncClient,
) -> None:
    fits = '{"query": "{ __typename }"}'.ljust(MAX_BODY_BYTES)
    assert (await post(client, fits)).status_code == 200
    assert (await post(client, fits + " ")).status_code == 413


@pytest.mark.parametrize("length", ["9" * 5000, "9" * 20])
async def test_an_absurd_length_is_answered_with_413(client: httpx.AsyncClient, length: str) -> None:
    response = await client.post("/graphql", content=b"", headers=JSON | {"Content-Length": length})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("content_type", "status"), [("application/json", 413), ("multipart/form-data", 400)]
)
async def test_a_body_without_a_length_is_cut_off_at_the_limit_of_its_kind(
    client: httpx.AsyncClient, content_type: str, status: int
) -> None:

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * (MAX_BODY_BYTES // 10)

    headers = {"Content-Type": content_type, "GraphQL-Require-Preflight": "1"}
    response = await client.post("/graphql", content=chunks(), headers=headers)
    assert (response.status_code, bool(response.text)) == (status, True)


async def test_an_upload_without_a_length_is_cut_off_too(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="0"; filename="0"\r\n\r\n'
        for _ in range(21):
            yield b" " * 2**20

    headers = {"Content-Type": "multipart/form-data; boundary=x", "GraphQL-Require-Preflight": "1"}
    response = await client.post("/graphql", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert str(MAX_UPLOAD_BYTES) in response.text


async def test_a_body_that_does_not_come_is_not_waited_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    response = await client.post("/graphql", content=never(), headers=JSON)
    assert (response.status_code, bool(response.json()["errors"][0]["message"])) == (408, True)


async def test_a_body_that_comes_a_byte_at_a_time_is_not_waited_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)

    async def bytewise() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    response = await client.post("/graphql", content=bytewise(), headers=JSON)
    assert response.status_code == 408


async def test_a_body_that_comes_at_a_rate_may_take_longer(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(guard, "BODY_BYTES_PER_SECOND", 100)

    async def slowly() -> AsyncIterator[bytes]:
        yield json.dumps({"query": "{ __typename }"}).encode()
        for _ in range(5):
            yield b" " * 50
            await asyncio.sleep(0.05)

    response = await client.post("/graphql", content=slowly(), headers=JSON)
    assert (response.status_code, response.json()["data"]) == (200, {"__typename": "Query"})


async def held_back(began: asyncio.Event, end: asyncio.Event, parts: list[bytes]) -> AsyncIterator[bytes]:
    """Give all parts but the last, which comes when the end may come."""
    for part in parts[:-1]:
        yield part
    began.set()
    await end.wait()
    yield parts[-1]


MANY = "[" + ",".join(["[]"] * 60_000) + "]"
"""More values than may be, in little text."""


async def test_long_bodies_that_come_together_leave_others_their_steps(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_turns, "SHORTEST_BREAK_SECONDS", 0)
    steps: list[str] = []

    def looks(text: bytes) -> bool:
        steps.append("long")
        time.sleep(0.005)
        return False

    monkeypatch.setattr(view, "may_have_many_values", looks)
    body = json.dumps({"query": "{ __typename }", "variables": {"long": "x" * 100_000}})
    headers = {"Content-Type": "application/json"}
    requests = asyncio.gather(*(client.post("/graphql", content=body, headers=headers) for _ in range(6)))
    while not requests.done():
        steps.append("another")
        await asyncio.sleep(0)
    assert [answer.status_code for answer in await requests] == [200] * 6
    places = [place for place, step in enumerate(steps) if step == "long"]
    assert len(places) == 6
    assert all(after - before > 3 for before, after in pairwise(places))


async def test_json_with_too_many_values_is_refused_before_they_are_made(client: httpx.AsyncClient) -> None:
    response = await post(client, f'{{"query": "{{ __typename }}", "variables": {{"a": {MANY}}}}}')
    error = response.json()["errors"][0]
    assert (response.status_code, error["extensions"]["code"]) == (413, "TOO_COMPLEX")
    assert "60,004 values; the limit is 50,000" in error["message"]


async def test_so_it_is_in_an_upload(client: httpx.AsyncClient) -> None:
    parts = [("operations", '{"query": "{ __typename }"}'), ("map", MANY)]
    body = "".join(f'--x\r\nContent-Disposition: form-data; name="{a}"\r\n\r\n{b}\r\n' for a, b in parts)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "GraphQL-Require-Preflight": "1"}
    response = await client.post("/graphql", content=f"{body}--x--\r\n", headers=headers)
    assert response.status_code == 413


@pytest.mark.parametrize("text", ["a,b,[c],{d}" * 20_000, '\\",' * 20_000])
async def test_what_stands_in_strings_is_no_value(client: httpx.AsyncClient, text: str) -> None:
    query = "query ($a: String!) { node(id: $a) { id } }"
    response = await client.post("/graphql", json={"query": query, "variables": {"a": text}})
    assert response.status_code == 200


@pytest.mark.parametrize("body", ["[" + "[]," * 60_000, "{" * 100_000])
async def test_much_that_is_no_json_is_malformed(client: httpx.AsyncClient, body: str) -> None:
    assert (await post(client, body)).status_code == 400


async def test_a_value_that_comes_back_in_an_error_is_shortened(client: httpx.AsyncClient) -> None:
    aliases = " ".join(f"a{place}: saes(first: $n) {{ totalCount }}" for place in range(20))
    variables = {"n": "x" * 100_000}
    response = await client.post(
        "/graphql", json={"query": f"query ($n: Int!) {{ {aliases} }}", "variables": variables}
    )
    (error,) = response.json()["errors"]
    assert "Int cannot represent" in error["message"] and len(response.content) < 2_000


@pytest.mark.parametrize(("media_type", "status"), [("application/json", 200), (GRAPHQL_JSON, 400)])
async def test_an_answer_has_a_length(server: AppContext, media_type: str, status: int) -> None:
    query = "{ a: __schema { types { name description } } }"
    async with client_of(server, max_answer_bytes=2_000) as client:
        response = await client.post("/graphql", json={"query": query}, headers={"Accept": media_type})
    (error,) = response.json()["errors"]
    assert (response.status_code, "data" in response.json()) == (status, False)
    assert error["extensions"] == {
        "code": "TOO_COMPLEX",
        "limit": "bytes",
        "allowed": 2_000,
        "actual": error["extensions"]["actual"],
    }


async def test_bodies_in_memory_have_a_limit_in_all(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_BODIES_BYTES", 200_000)
    small = json.dumps({"query": "{ __typename }"}).encode()
    large = [b" " * 150_000, small]
    began, end = asyncio.Event(), asyncio.Event()
    first = asyncio.ensure_future(client.post("/graphql", content=held_back(began, end, large), headers=JSON))
    await began.wait()
    refused = await client.post("/graphql", content=b"".join(large), headers=JSON)
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (503, "BUSY")
    assert (await client.post("/graphql", content=small, headers=JSON)).status_code == 200
    end.set()
    assert (await first).status_code == 200
    assert (await client.post("/graphql", content=b"".join(large), headers=JSON)).status_code == 200


async def test_uploads_have_a_limit_in_number(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_UPLOADS", 1)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "GraphQL-Require-Preflight": "1"}
    began, end = asyncio.Event(), asyncio.Event()
    parts = [b"--x\r\n", b"--x--\r\n"]
    first = asyncio.ensure_future(
        client.post("/graphql", content=held_back(began, end, parts), headers=headers)
    )
    await began.wait()
    refused = await client.post("/graphql", content=b"--x--\r\n", headers=headers)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    end.set()
    assert (await first).status_code == 400
    assert (await client.post("/graphql", content=b"--x--\r\n", headers=headers)).status_code == 400


@pytest.mark.parametrize("kind", ["", '; filename="a"'], ids=["fields", "files"])
@pytest.mark.parametrize(("others", "status"), [(5, 200), (21, 400)])
async def test_an_upload_has_few_parts(
    client: httpx.AsyncClient, kind: str, others: int, status: int
) -> None:
    own = [('name="operations"', json.dumps({"query": "{ __typename }"})), ('name="map"', "{}")]
    parts = [*own, *((f'name="{place}"{kind}', "x") for place in range(others))]
    body = "".join(f"--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{text}\r\n" for name, text in parts)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "GraphQL-Require-Preflight": "1"}
    response = await client.post("/graphql", content=f"{body}--x--\r\n", headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize("name", ["a" * 1001, "\ud800", 5])
async def test_an_operations_name_has_a_length(client: httpx.AsyncClient, name: Any) -> None:
    response = await post(client, json.dumps({"query": "query a { __typename }", "operationName": name}))
    assert response.status_code == 400
    assert len(response.text) < 1000


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x"])
async def test_a_client_that_goes_in_the_middle_of_its_body_gets_no_answer(
    server: AppContext, content_type: str
) -> None:
    headers = {"Host": "localhost", "Content-Type": content_type, "GraphQL-Require-Preflight": "1"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/graphql",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    coming = iter(
        [{"type": "http.request", "body": b"--x\r\n", "more_body": True}, {"type": "http.disconnect"}]
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    await endpoint(server)(scope, receive, send)

    assert sent == []


# ------------------------------------------------------------------------- what to run, and where


async def test_a_subscription_over_http_is_told_to_go_over_websocket(client: httpx.AsyncClient) -> None:
    query = "subscription { jobs { id } }"
    responses = [
        await client.post("/graphql", json={"query": query}),
        await client.get("/graphql", params={"query": query}),
    ]
    for response in responses:
        assert response.status_code == 400
        assert "graphql-transport-ws" in response.text


async def test_a_mutation_by_get_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.get(
        "/graphql", params={"query": 'mutation { cancelJob(id: "a") { __typename } }'}
    )
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    assert "POST" in response.json()["errors"][0]["message"]


async def test_several_operations_need_a_name(client: httpx.AsyncClient) -> None:
    query = "query a { __typename } query b { b: __typename }"
    assert (await error_of(client, query))["message"] == NO_OPERATION_NAME
    named = await client.post("/graphql", json={"query": query, "operationName": "b"})
    assert named.json()["data"] == {"b": "Query"}
    with_fragment = "{ ...f } fragment f on Query { __typename }"
    answer = await client.post("/graphql", json={"query": with_fragment})
    assert answer.json()["data"] == {"__typename": "Query"}


# --------------------------------------------------------------------------------- the guard


@pytest.mark.parametrize("host", ["LOCALHOST", "LocalHost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
async def test_a_loopback_name_is_accepted_however_it_is_written(
    client: httpx.AsyncClient, host: str
) -> None:
    response = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"Host": host})
    assert response.status_code == 200


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "10.0.0.1", "", "[::2]"])
async def test_another_name_is_refused(client: httpx.AsyncClient, host: str) -> None:
    response = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"Host": host})
    assert response.status_code == 421


# ------------------------------------------------------------------------ values of variables


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query ($id: ID!) { sae(id: $id) { id } }", "{}"),
        ("query ($id: ID!) { sae(id: $id) { id } }", '{"id": null}'),
        ("query ($id: ID!) { sae(id: $id) { id } }", '{"id": {}}'),
        ("query ($first: Int!) { saes(first: $first) { totalCount } }", '{"first": 9999999999}'),
        ("query ($kind: [JobKind!]) { jobs(kind: $kind) { totalCount } }", '{"kind": ["DANCE"]}'),
        (
            "mutation ($in: ImportConceptsInput!) { importConcepts(input: $in) { __typename } }",
            '{"in": {"saeId": "a", "source": {"csv": "a", "json": "b"}}}',
        ),
        (
            "mutation ($source: ConceptSourceInput!) {"
            ' importConcepts(input: {saeId: "a", source: $source}) { __typename } }',
            '{"source": {}}',
        ),
        (
            "mutation ($csv: String) {"
            ' importConcepts(input: {saeId: "a", source: {csv: $csv, json: "{}"}}) { __typename } }',
            "{}",
        ),
        ("query ($kind: JobKind! = TRAIN_SAE) { jobs(kind: [$kind]) { totalCount } }", '{"kind": null}'),
    ],
)
async def test_a_variable_that_has_not_its_type_is_invalid_input(
    client: httpx.AsyncClient, query: str, variables: str
) -> None:
    error = await error_of(client, query, variables)
    assert error["extensions"]["code"] == "INVALID_INPUT"


@pytest.mark.parametrize("query", ["{", "{ nothing }", "{ saes(first: true) { totalCount } }"])
async def test_what_is_wrong_with_the_document_itself_is_invalid_input(
    client: httpx.AsyncClient, query: str
) -> None:
    error = await error_of(client, query)
    assert error["extensions"] == {"code": "INVALID_INPUT"}
    assert error["locations"]


HASH = {
    "persistedQuery": {
        "version": 1,
        "sha256Hash": "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38",
    }
}
NOT_KEPT = {"message": "PersistedQueryNotSupported", "extensions": {"code": "PERSISTED_QUERY_NOT_SUPPORTED"}}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_of_persisted_queries_is_told_to_send_the_text(
    client: httpx.AsyncClient, method: str
) -> None:
    given: dict[str, Any] = {"operationName": "Version", "extensions": HASH}
    if method == "GET":
        response = await client.get("/graphql", params=given | {"extensions": json.dumps(HASH)})
    else:
        response = await client.post("/graphql", json=given)
    assert (response.status_code, response.json()) == (200, {"errors": [NOT_KEPT]})
    again = await client.post("/graphql", json=given | {"query": "query Version { __typename }"})
    assert again.json()["data"] == {"__typename": "Query"}
