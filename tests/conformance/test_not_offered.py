"""What docs/conformance.md says is not offered is refused in words, not misunderstood."""

from typing import Any

import httpx
import pytest

from tests.support.server_process import RunningServer

QUERY = {"query": "{ __typename }"}
SUBSCRIPTION = {"query": "subscription { jobs { id } }"}
PERSISTED = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}
MULTIPART = 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0", application/json'
DEFERRED = {"query": "{ ... @defer { __typename } }"}


def send(server: RunningServer, body: Any, method: str = "POST", **headers: str) -> httpx.Response:
    return httpx.request(method, f"{server.url}/graphql", json=body, headers=headers)


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"body": [QUERY]}),
        (200, {"body": PERSISTED}),
        (405, {"body": None, "method": "PUT"}),
        (405, {"body": None, "method": "DELETE"}),
        (415, {"body": QUERY, "content-type": "application/x-www-form-urlencoded"}),
        (415, {"body": QUERY, "content-type": "application/graphql"}),
        (406, {"body": QUERY, "accept": "image/png"}),
        (400, {"body": SUBSCRIPTION, "accept": MULTIPART}),
    ],
    ids=[
        "a batch",
        "a persisted query",
        "a reservation of a single SSE connection",
        "the end of an operation on a single SSE connection",
        "a form",
        "a bare document",
        "an image",
        "a multipart subscription",
    ],
)
def test_it_is_refused_with_a_graphql_error(
    running_server: RunningServer, status: int, request_: dict[str, Any]
) -> None:
    answer = send(running_server, **request_)

    assert answer.status_code == status, answer.text
    (error,) = answer.json()["errors"]
    assert error["message"]
    assert error["extensions"]["code"]


def test_incremental_delivery_is_no_part_of_the_schema(running_server: RunningServer) -> None:
    answer = send(running_server, DEFERRED)

    assert answer.json()["errors"][0]["message"] == "Unknown directive '@defer'."
