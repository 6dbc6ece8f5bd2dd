"""What can be wrong with requests as such: their text, members, bodies, headers and frames."""

import gzip
import json
import random
from typing import Any

SECOND_OPERATIONS = (
    "\nquery Second { __typename }",
    "\nmutation Second { __typename }",
    "\nfragment Unused on Query { __typename }",
    "\nfragment Circle on Query { ...Circle }",
    "\nfragment Twice on Query { ...Thrice } fragment Thrice on Query { ...Twice }",
    "\ntype Mine { a: Int }",
    "\nquery Second($a: Int = 1, $a: [Upload!]! = null) { server @skip(if: $nowhere) { version } }",
)
DEEP = "{ saes { nodes { languageModel " * 30


def odd_text(text: str, dice: random.Random) -> str:
    """Return a document's text, once in a while with something wrong."""
    if dice.random() > 0.05:
        return text
    place = dice.randrange(len(text))
    return dice.choice(
        (
            *(text + more for more in SECOND_OPERATIONS),
            text[:place],
            text[:place] + dice.choice('{}()[]!$@"\0\u2028…"""#') + text[place:],
            text.replace("{", "{ __typename @skip(if: false) ", 1),
            text.replace("{", "{ __schema { types { name fields { name args { name } } } } ", 1),
            text.replace("{", '{ __type(name: "<<sae:0>>") { name ofType { ofType { name } } } ', 1),
            text.replace("{", "{ " + " ".join(f"b{n}: __typename" for n in range(40)) + " ", 1),
            text.replace("{", "{ " * 150, 1),
            "#" + "x" * 60_000 + "\n" + text,
            text + " " + "{ a } " * 500,
            DEEP + "{ id }" + "}" * 90,
            "",
            "\0",
            "query",
        )
    )


def odd_members() -> list[dict[str, Any]]:
    """Return members of a request that no client sends."""
    names: list[Any] = ["Nobody", "", "Second", " ", "\0", "\ud800", "a" * 10_000, 1, [], None, {}]
    variables: list[Any] = [
        None,
        [],
        "",
        "{}",
        1,
        True,
        {"v1": None},
        {"": 1},
        {"v1": {"a": [[[[{}]]]]}},
        {"v2": "\udc00"},
    ]
    queries: list[Any] = [None, 1, [], {}, "", True]
    extensions: list[Any] = [None, {}, [], 1, {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}]
    return [
        *({"operationName": name} for name in names),
        *({"variables": value} for value in variables),
        *({"query": query} for query in queries),
        *({"extensions": value} for value in extensions),
        {"unheardOf": {"a": 1}, "__proto__": {}, "id": 1},
    ]


def odd_bodies(body: str) -> list[bytes]:
    """Return what is sent in the place of a body of JSON."""
    inner = body[1:-1]
    return [
        body[: len(body) // 2].encode(),
        ("{" + inner + ", " + inner + "}").encode(),
        ('{"query": "{ server { version } }", ' + inner + "}").encode(),
        f"[{body}, {body}]".encode(),
        b"\xef\xbb\xbf" + body.encode(),
        body.encode("utf-16"),
        body.encode() + b"\xff\xfe",
        body.encode() + b"\0",
        gzip.compress(body.encode()),
        b"",
        b"null",
        b"[]",
        b'"{ server { version } }"',
        b"[" * 100_000,
        b'{"query": "{ server { version } }", "variables": ' + b'{"a": ' * 50_000,
        b'{"query": "{ server { version } }", "variables": {"a": ' + b"9" * 10_000 + b"}}",
        b'{"query": "{ server { version } }", "variables": {"a": NaN, "b": -Infinity}}',
        b"query=" + body.encode(),
        b"x" * 1_000_000,
    ]


HEADERS: list[dict[str, str]] = [
    {"Accept": "application/graphql-response+json"},
    {"Accept": "application/json; q=0, */*"},
    {"Accept": "text/html"},
    {"Accept": "image/png"},
    {"Accept": ""},
    {"Accept": ";;;,,,q=x"},
    {"Accept": "multipart/mixed"},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": "application/json; charset=nonsense"},
    {"Content-Type": "application/graphql"},
    {"Content-Type": "multipart/form-data"},
    {"Content-Type": "multipart/form-data; boundary=x", "X-Requested-With": "x"},
    {"Content-Type": ""},
    {"Content-Encoding": "gzip"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Host": "evil.example"},
    {"Host": ""},
    {"Authorization": "Bearer x"},
    {"Cookie": "a=b; =; ;;; gql_server=x"},
    {"X-Forwarded-For": "x" * 5000},
]


def _subscribe(id: Any, payload: Any) -> str:
    return json.dumps({"id": id, "type": "subscribe", "payload": payload})


INIT = '{"type": "connection_init"}'
JOBS = {"query": "subscription { jobs { id status } }"}
FRAMES = [
    INIT,
    INIT,
    INIT,
    '{"type": "connection_init", "payload": {"authorization": ["Bearer"]}}',
    '{"type": "connection_init", "payload": []}',
    '{"type": "connection_init", "payload": null}',
    _subscribe("1", JOBS),
    _subscribe("1", JOBS),
    _subscribe("2", {"query": 'subscription { jobProgress(id: "<<job:0>>") { sequence } }'}),
    _subscribe("3", {"query": '{ sae(id: "<<sae:0>>") { name } }', "variables": {"a": "\ud800"}}),
    _subscribe("4", {"query": "{ sae(id: 1) { nothing } }"}),
    _subscribe("5", {"query": "{ server { version } }", "operationName": "Nobody"}),
    _subscribe("6", {"query": None}),
    _subscribe("7", {"query": "x", "variables": []}),
    _subscribe("", JOBS),
    _subscribe(None, JOBS),
    _subscribe({"a": 1}, JOBS),
    _subscribe("8" * 5000, JOBS),
    _subscribe("\ud800", JOBS),
    '{"id": "1", "type": "complete"}',
    '{"id": "nobody", "type": "complete"}',
    '{"id": 1, "type": "complete"}',
    '{"type": "complete"}',
    '{"type": "ping"}',
    '{"type": "ping", "payload": "x"}',
    '{"type": "pong", "payload": {"a": "\\ud800"}}',
    '{"type": "next", "id": "1", "payload": {}}',
    '{"type": "unheardOf"}',
    '{"type": null}',
    "{}",
    "[]",
    "null",
    "nonsense",
    "[" * 20_000,
    "",
    "\0",
    '{"type": "ping", "payload": {"a": ' + "9" * 6000 + "}}",
]
"""Messages of graphql-transport-ws that come out of order, or are none."""
