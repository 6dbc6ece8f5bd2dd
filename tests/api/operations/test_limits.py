"""What is too much is refused, with the limit's name and by how much; what the tools send is not."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    OperationDefinitionNode,
    OperationType,
    get_introspection_query,
    get_nullable_type,
    is_list_type,
    parse,
)
from starlette.datastructures import UploadFile

from gql_server.api.context import Context
from gql_server.api.operations.documents import only_introspects
from gql_server.api.operations.list_sizes import SIZES
from gql_server.api.schema import schema
from gql_server.jobs import event_log
from gql_server.jobs.executor import TaskRun
from gql_server.services.app_context import AppContext
from models import Job
from models.enums import JobStatus
from tests.api.asking import ask, execute, first_error, follow
from tests.support.documents import TABS, tab_variables
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae, idle_job, serving
from tests.support.waiting import until


async def refusal(server: AppContext, query: str, **variables: Any) -> tuple[str, float, float]:
    """Return which limit refuses a query, what it allows and what was asked."""
    error = await first_error(server, query, **variables)
    extensions = error["extensions"]
    assert extensions["code"] == "TOO_COMPLEX"
    assert f"{extensions['actual']:,}" in error["message"]
    assert f"the limit is {extensions['allowed']:,}" in error["message"]
    return extensions["limit"], extensions["allowed"], extensions["actual"]


async def cost(server: AppContext, query: str, **variables: Any) -> int:
    """Return what the server says that a query costs, whatever comes of it."""
    result = await execute(server, query, **variables)
    assert result.extensions
    return int(result.extensions["cost"]["estimated"])


# ------------------------------------------------------------------------ text and shape


@pytest.mark.parametrize(
    ("query", "limit", "actual"),
    [
        ("{ __typename }" + " " * 50_000, "characters", 50_014),
        ("{" + "a " * 2_000 + "}", "tokens", 2_002),
        ("{" + "a{" * 100 + "b" + "}" * 101, "nesting", 101),
        ("{ node(id: " + "[" * 110 + "]" * 110 + ") { id } }", "nesting", 112),
        ("{" + "a{" * 30 + "b" + "}" * 31, "depth", 31),
        ("{" + " ".join(f"a{i}: __typename" for i in range(31)) + "}", "aliases", 31),
        ("{" + "__typename " * 32 + "}", "aliases", 31),
        ("{" + "... { __typename } " * 32 + "}", "aliases", 31),
        (
            "query ($x: [Int]) { server { version } ...F } fragment F on Query {"
            + "a{" * 20
            + "b"
            + "}" * 21,
            "depth",
            21,
        ),
        ("subscription {" + "a{" * 30 + "b" + "}" * 31, "depth", 31),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_document_beyond_a_limit_is_refused_before_it_is_validated(
    server: AppContext, query: str, limit: str, actual: int
) -> None:
    name, _, found = await refusal(server, query)
    assert (name, found) == (limit, actual)


async def test_fragments_that_double_are_counted_once_and_refused_by_their_cost(server: AppContext) -> None:
    doubling = " ".join(f"fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }}" for i in range(60))
    query = f"{{ ...F0 }} {doubling} fragment F60 on Query {{ __typename }}"
    assert (await refusal(server, query))[::2] == ("cost", 2**60)


async def test_fragments_that_ask_for_the_same_are_refused_before_each_two_are_compared(
    server: AppContext,
) -> None:
    def query(count: int) -> str:
        spreads = " ".join(f"...F{number}" for number in range(count))
        fragments = [f"fragment F{number} on Sae {{ id name job {{ id }} }}" for number in range(count)]
        return f"{{ saes {{ nodes {{ {spreads} }} }} }} {' '.join(fragments)}"

    # Each two of the fragments meet at id, at name, at job and at its id.
    assert await ask(server, query(32)) == {"saes": {"nodes": []}}
    assert await refusal(server, query(33)) == ("overlaps", 2_000, 4 * 33 * 32 // 2)


async def test_fragments_that_lead_to_more_places_than_can_be_visited_are_refused(server: AppContext) -> None:
    names = [f"F{number}" for number in range(18)]
    branches = " ".join(
        f"fragment {name} on Sae {{ x {{ ...{follower} }} y {{ ...{follower} }} }}"
        for name, follower in zip(names, [*names[1:], "Last"], strict=True)
    )
    assert (await refusal(server, f"{{ ...F0 }} {branches} fragment Last on Sae {{ id }}"))[0] == "overlaps"


async def test_fragments_in_a_circle_through_a_field_are_a_mistake_in_the_query(server: AppContext) -> None:
    query = """{ sae(id: "x") { ...A } } fragment A on Sae { activationRun { ...B } }
      fragment B on ActivationRun { saes { nodes { ...A } } }"""
    assert "Cannot spread fragment" in (await first_error(server, query))["message"]


async def test_fragments_in_a_circle_are_a_mistake_in_the_query(server: AppContext) -> None:
    query = "{ ...A } fragment A on Query { ...B } fragment B on Query { server { version } ...A }"
    assert "Cannot spread fragment" in (await first_error(server, query))["message"]


async def test_an_operation_that_is_refused_unread_may_have_a_name(server: AppContext) -> None:
    query = "query Mine { " + "a " * 3_000 + "}"
    result = await schema.execute(query, {}, context(server), operation_name="Mine")
    assert result.errors and (result.errors[0].extensions or {})["limit"] == "tokens"


async def test_the_same_field_under_different_types_is_no_repetition(server: AppContext) -> None:
    kinds = ["Sae", "Job", "Concept", "ActivationRun", "LanguageModel", "ConceptConfig", "Neuron"]
    query = '{ node(id: "x") {' + " ".join(f"... on {kind} {{ id }}" for kind in kinds) + "} }"
    assert await ask(server, query) == {"node": None}


async def test_what_our_own_tools_send_is_allowed(server: AppContext) -> None:
    introspection = get_introspection_query(descriptions=True, input_value_deprecation=True)
    assert "__schema" in await ask(server, introspection)
    for tab in TABS.glob("*.graphql"):
        text = tab.read_text()
        for definition in operations(text):
            result = await schema.execute(
                text, tab_variables(tab), context(server), operation_name=definition
            )
            errors = [error.extensions or {} for error in result.errors or []]
            assert not [one for one in errors if one.get("code") == "TOO_COMPLEX"]


def operations(text: str) -> list[str]:
    """Return the names of the queries and mutations of a document."""
    return [
        node.name.value
        for node in parse(text).definitions
        if isinstance(node, OperationDefinitionNode)
        and node.name
        and node.operation is not OperationType.SUBSCRIPTION
    ]


def context(server: AppContext) -> Any:
    return Context(server)


async def test_a_mistakes_place_is_found_without_going_over_all_lines_before_it(server: AppContext) -> None:
    newlines = "\n" * 20_000 + "\r\n" * 3 + "\r"
    error = await first_error(server, newlines + "  { jobs(first: -1) { totalCount } }")
    assert error["locations"] == [{"line": 20_005, "column": 5}]
    error = await first_error(server, "{ jobs(first: -1) { totalCount } }")
    assert error["locations"] == [{"line": 1, "column": 3}]
    error = await first_error(server, "{ server\n { nothing } }")
    assert error["locations"] == [{"line": 2, "column": 4}]


async def test_a_name_of_whatever_shape_does_not_hide_that_a_document_is_too_large(
    server: AppContext,
) -> None:
    for name in ("on", "é", "a b", "}", "{"):
        result = await schema.execute("{" + "a " * 3_000 + "}", {}, context(server), operation_name=name)
        assert result.errors and (result.errors[0].extensions or {})["limit"] == "tokens"


async def test_a_type_may_be_asked_whether_it_is_one_of(server: AppContext) -> None:
    query = """{ one: __type(name: "SteeringSourceInput") { isOneOf }
      other: __type(name: "SteeringInput") { isOneOf }
      object: __type(name: "Sae") { isOneOf fields { type { isOneOf ofType { isOneOf } } } } }"""
    data = await ask(server, query)
    assert (data["one"], data["other"]) == ({"isOneOf": True}, {"isOneOf": False})
    assert data["object"]["isOneOf"] is None


# ---------------------------------------------------------------------------------- cost


def test_every_list_has_a_size() -> None:
    lists = {
        f"{name}.{field_name}"
        for name, type_ in schema._schema.type_map.items()
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType)
        for field_name, field in type_.fields.items()
        if is_list_type(get_nullable_type(field.type)) and not name.endswith("Connection")
    }
    assert lists == set(SIZES) - {"__Type.ofType"}, "a type is wrapped by no list, but not always"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{ __typename }", 1),
        ("{ server { version hubEnabled } }", 3),
        # saes, pageInfo and its field, and 7 nodes of 2 fields
        ("{ saes(first: 7) { nodes { id name } pageInfo { endCursor } } }", 1 + 7 * 3 + 2),
        ("{ saes { nodes { id } } }", 1 + 20 * 2),
        ("{ saes(first: 1000) { nodes { id } } }", 1 + 100 * 2),
        (
            "{ saes(first: 10) { edges { node { id concepts(first: 3) { nodes { id } } } } } }",
            1 + 10 * (2 + 1 + 1 + 3 * 2),
        ),
        (
            "query ($n: Int! = 5) { jobs(first: $n) { nodes { events(first: $n) { at } } } }",
            1 + 5 * (1 + 5 * 2),
        ),
        ("{ saes(first: 2) { ...F } } fragment F on SaeConnection { nodes { ...G ... on Sae { id } } }"
         " fragment G on Sae { name }", 1 + 2 * 3),
        ('{ sae(id: "x") { trainingHistory(maxPoints: 300) { loss mse } } }', 1 + 300 * 3 // 4),
        ("{ jobs(first: -5) { nodes { id } } }", 1 + 2),
        ('{ sae(id: "x") { neurons(first: 2, filter: {dead: true}) { totalCount } } }', 1 + 1 + 50 + 1),
        ('{ sae(id: "x") { neurons(first: 2, orderBy: FREQUENCY_DESC) { totalCount } } }', 1 + 1 + 50 + 1),
        ('{ sae(id: "x") { neurons(first: 2) { totalCount } } }', 1 + 1 + 1),
        # 3 prompts are run, and each reports 4 neurons of 2 fields
        ('{ topNeurons(saeId: "x", prompts: ["a", "b", "c"], first: 4) { ... on TopNeurons { prompts {'
         " neurons { activation } } } } }", 1 + 3 * 250 + 3 * (1 + 4 * 2)),
        # 3 texts are run, and 4 neurons of 2 fields reported
        ('{ contrastNeurons(saeId: "x", textsA: ["a"], textsB: ["b", "c"], first: 4) {'
         " ... on ContrastedNeurons { neurons { difference meanActivationA } } } }",
         1 + 3 * 250 + 4 * (1 + 2)),
        ('{ contrastNeurons(saeId: "x", textsA: ["a"], textsB: ["b", "c"], first: 4) {'
         " ... on ContrastedNeurons { neurons { difference } neuronsB { difference meanActivationA } } } }",
         1 + 3 * 250 + 4 * (1 + 1) + 4 * (1 + 2)),
        # 2 prompts, steered and not, 8 tokens each
        ('mutation { generate(input: {saeId: "x", prompts: ["a", "b"], maxNewTokens: 8,'
         ' compareToBaseline: true, steering: {source: {edits: []}}}) {'
         ' ... on Generation { outputs { tokens { text } } } } }',
         1 + 4 * 250 + 4 * 8 + 4 * (1 + 8 * 2)),
        # 1 prompt, 8 tokens; 3 neurons watched at each of them, and over the prompt's 64 as well
        ('mutation { generate(input: {saeId: "x", prompts: ["a"], maxNewTokens: 8,'
         ' watchNeurons: [1, 2, 3]}) { ... on Generation { outputs { watched tokens { watched } } } } }',
         1 + 250 + 8 + (1 + 3 * (64 + 8) + 8 * (1 + 3))),
        # Of an event: the tokens of 2 prompts, or a token
        ('subscription { generation(input: {saeId: "x", prompts: ["a", "b"], maxNewTokens: 8,'
         ' watchNeurons: [1]}) { ... on GenerationStarted { promptTokens { text } }'
         ' ... on GenerationToken { token { watched } } } }',
         1 + 2 * 250 + 2 * 8 + 2 * 64 * 2 + 1 + 1),
    ],
)  # fmt: skip
async def test_the_cost_is_the_number_of_values_times_the_pages_and_inference_costs_more(
    server: AppContext, query: str, expected: int
) -> None:
    assert await cost(server, query) == expected


async def test_what_costs_too_much_is_refused_with_the_cost_and_the_limit(server: AppContext) -> None:
    nested = "{ saes(first: 100) { nodes { concepts(first: 100) { nodes { id name score } } } } }"
    expected = 1 + 100 * (1 + 1 + 100 * 4)
    assert await refusal(server, nested) == ("cost", 30_000, expected)
    assert await cost(server, nested) == expected
    prompts = 'query ($p: [String!]!) { topNeurons(saeId: "x", prompts: $p) { __typename } }'
    assert (await refusal(server, prompts, p=["a"] * 1_000))[0] == "cost"


async def test_variables_may_have_so_many_values_wherever_they_stand(server: AppContext) -> None:
    query = "query ($x: [JobStatus!]) { jobs(status: $x) { totalCount } }"
    assert await ask(server, query, x=["QUEUED"] * 4_999) == {"jobs": {"totalCount": 0}}
    assert await refusal(server, query, x=["QUEUED"] * 5_000) == ("values", 5_000, 5_001)
    assert await refusal(server, query, x=[{"a": [1, 2, [3]]}] * 1_000) == ("values", 5_000, 6_001)
    assert await refusal(server, query, another={"a": [None] * 6_000}) == ("values", 5_000, 6_002)


async def test_an_answer_has_no_more_values_than_its_cost(server: AppContext) -> None:
    run = await add_run(server, await add_language_model(server))
    for _ in range(12):
        await add_sae(server, run)
    query = """{ saes(first: 9) { totalCount edges { cursor node {
      id name activationRun { name layers { name } saes(first: 3) { nodes { id } } }
      neurons(first: 5) { nodes { index sae { id } concept { id } } }
    } } } }"""
    result = await execute(server, query)
    assert result.data
    assert 300 < count_values(result.data) <= await cost(server, query)


def count_values(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(count_values, value))
    return sum(1 + count_values(one) for one in value.values()) if isinstance(value, dict) else 0


@pytest.mark.parametrize("name", ["Sae", "Query", "Node", "ErrorCode", "CaptureActivationsInput", "JobEvent"])
async def test_looking_at_one_type_has_no_more_values_than_its_cost(server: AppContext, name: str) -> None:
    query = f"""{{ __type(name: "{name}") {{ name fields {{ name args {{ name }} }} inputFields {{ name }}
      enumValues {{ name }} interfaces {{ name }} possibleTypes {{ fields {{ name }} }} }} }}"""
    result = await execute(server, query)
    assert result.data
    assert count_values(result.data) <= await cost(server, query)


async def test_variables_that_are_refused_have_no_cost(server: AppContext) -> None:
    result = await execute(server, "query ($n: Int!) { saes(first: $n) { totalCount } }", n="x")
    assert result.errors
    assert not result.extensions


async def test_a_subscription_shows_its_cost_once(server: AppContext) -> None:

    job = idle_job()
    async with server.database.write() as session:
        session.add(job)
        await session.flush()
        stored = await session.get_one(Job, job.id)
        for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
            await event_log.append_status(session, stored, status)
    query = "subscription ($id: ID!) { jobProgress(id: $id) { sequence job { id } } }"
    first, second = await follow(server, query, id=job.id)
    assert first.extensions == {"cost": {"estimated": 4, "limit": 30_000}}
    assert not second.extensions


# ---------------------------------------------------------------------------------- time


async def test_an_operation_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def never(_server: AppContext) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr("gql_server.services.interactive.describe", never)
    async with serving(tmp_path, max_execution_seconds=0.05) as server:
        assert await refusal(server, "{ server { devices } }") == ("seconds", 0.05, 0.05)
    assert ended.is_set()


async def test_a_generation_that_takes_too_long_or_whose_client_goes_is_stopped(tmp_path: Path) -> None:
    runs: list[TaskRun] = []
    executor = FakeExecutor(lambda task, run: runs.append(run))
    query = """mutation ($id: ID!) { generate(input: {languageModelId: $id, prompts: ["a"]}) {
      __typename ... on Error { message } } }"""
    async with serving(tmp_path, executor, max_execution_seconds=0.2) as server:
        language_model = await add_language_model(server)
        assert (await refusal(server, query, id=language_model.id))[0] == "seconds"
        vanishing = asyncio.ensure_future(execute(server, query, id=language_model.id))
        await until(lambda: len(runs) == 2)
        vanishing.cancel()
        await asyncio.gather(vanishing, return_exceptions=True)
        assert [run.cancel_requested for run in runs] == [True, True]
        assert server.in_use.requests == 0


async def test_a_time_out_of_something_else_is_a_fault(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(_server: AppContext) -> Any:
        raise TimeoutError

    monkeypatch.setattr("gql_server.services.interactive.describe", late)
    error = await first_error(server, "{ server { devices } }")
    assert error["extensions"]["code"] == "INTERNAL"


# ------------------------------------------------------------------------- introspection


async def test_introspection_can_be_switched_off(tmp_path: Path) -> None:
    async with serving(tmp_path, introspection=False) as server:
        for query in ("{ __schema { types { name } } }", '{ __type(name: "Query") { name } }'):
            assert "introspection" in (await first_error(server, query))["message"]
        assert await ask(server, "{ __typename }") == {"__typename": "Query"}
        error = await first_error(server, "{ server { versio } }")
        assert "version" not in error["message"], "no name is suggested that was not asked for"


LOWERED: dict[str, Any] = {
    "max_query_characters": 200,
    "max_query_tokens": 40,
    "max_query_depth": 3,
    "max_query_aliases": 0,
    "max_query_cost": 10,
}


async def test_introspection_stands_apart_from_lowered_limits(tmp_path: Path) -> None:
    standard = get_introspection_query(descriptions=True, input_value_deprecation=True)
    async with serving(tmp_path, **LOWERED) as server:
        assert "__schema" in await ask(server, standard)
        also_data = standard.replace("{", "{ saes { totalCount }", 1)
        assert (await first_error(server, also_data))["extensions"]["limit"] == "characters"
        assert (await first_error(server, "{ saes { nodes { neurons { nodes { id } } } } }"))["extensions"][
            "limit"
        ] == "depth"
        long = "{" + "__typename " * 60 + "}"
        assert (await first_error(server, long))["extensions"]["limit"] == "characters"


async def test_a_document_that_is_kept_has_its_size_still(server: AppContext, tmp_path: Path) -> None:
    document = "{ kept: server { version } " + "__typename " * 20 + "}"
    nested = f"{{ __typename(a: {'[' * 120}{']' * 120}) }}"
    for _ in range(2):
        await ask(server, document)
        assert (await refusal(server, nested))[0] == "nesting"
    async with serving(tmp_path / "lower", max_query_tokens=20) as lower:
        for _ in range(2):
            assert await refusal(lower, document) == ("tokens", 20, 28)


@pytest.mark.parametrize(
    ("document", "introspects"),
    [
        ("{ __schema { queryType { name } } __typename }", True),
        ("{ ... { ...A } } fragment A on Query { __schema { queryType { name } } ...A }", True),
        ("{ __schema { queryType { name } } ...A } fragment A on Query { jobs { totalCount } }", False),
        ("query a { __schema { queryType { name } } } query b { jobs { totalCount } }", False),
        ("{ __typename }", False),
    ],
)
def test_a_document_only_introspects_where_no_fragment_and_no_operation_asks_for_data(
    document: str, introspects: bool
) -> None:
    assert only_introspects(parse(document)) is introspects


async def test_introspection_has_limits_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path, **LOWERED) as server:
        many = "{" + " ".join(f"a{i}: __schema {{ types {{ name }} }}" for i in range(40)) + "}"
        assert (await first_error(server, many))["extensions"]["allowed"] == 30


# ------------------------------------------------------------------------ what is sent along


def imports(source: str, times: int) -> str:
    """Return a mutation that imports the same again and again."""
    fields = [
        f'a{place}: importConcepts(input: {{saeId: "x", source: {source}}}) {{ __typename }}'
        for place in range(times)
    ]
    variable = "$file: Upload!" if "$file" in source else "$csv: String!"
    return f"mutation ({variable}) {{ {' '.join(fields)} }}"


async def test_long_arguments_count_for_each_place_that_they_are_used_in(server: AppContext) -> None:
    short = await cost(server, imports("{csv: $csv}", 5), csv="")
    assert await cost(server, imports("{csv: $csv}", 5), csv="x" * 40_000) == short + 5 * 40
    limit, _, actual = await refusal(server, imports("{csv: $csv}", 30), csv="x" * 4_000_000)
    assert (limit, actual > 30 * 4_000) == ("cost", True)


async def test_a_file_counts_for_each_place_that_it_is_used_in(server: AppContext) -> None:
    file = UploadFile(io.BytesIO(b"neuron_idx,concept_name,score"))
    assert await cost(server, imports("{upload: $file}", 3), file=file) > 3 * 2_000
    limit, _, _ = await refusal(server, imports("{upload: $file}", 20), file=file)
    assert limit == "cost"


# --------------------------------------------------------------------------------- prompts

TOP = """query($p: [String!]!, $all: Boolean!) {
  topNeurons(saeId: "x", prompts: $p, first: 1, perToken: $all) {
  ... on TopNeurons { prompts { tokens { text } perToken { neurons { activation } } } } } }"""


def top_neurons_cost(prompts: list[str], tokens: list[int], per_token: bool = False) -> float:
    """Return the cost by hand: each prompt's pass, tokens with their texts and neurons, and characters."""
    passes = sum(250 + 0.2 * max(0, count - 64) for count in tokens)
    each_token = 2 + (1 + 1 + 1 if per_token else 0)
    return 1 + passes + len(prompts) + each_token * sum(tokens) + (len("x") + sum(map(len, prompts))) / 1_000


@pytest.mark.parametrize(
    ("prompts", "tokens"),
    [
        (["abcdef"], [3]),
        (["x" * 30_000], [10_001]),
        (["a" * 299, ""], [100, 1]),
        (["語" * 300], [301]),
    ],
)
@pytest.mark.parametrize("per_token", [False, True])
async def test_a_prompt_counts_as_its_tokens(
    server: AppContext, prompts: list[str], tokens: list[int], per_token: bool
) -> None:
    expected = top_neurons_cost(prompts, tokens, per_token)
    result = await execute(server, TOP, p=prompts, all=per_token)
    assert result.extensions and result.extensions["cost"]["estimated"] == round(expected)


async def test_a_long_prompt_counts_for_each_output_of_it(server: AppContext) -> None:
    query = """mutation($p: [String!]!, $both: Boolean!) { generate(input: {saeId: "x", prompts: $p,
      maxNewTokens: 8, compareToBaseline: $both, steering: {source: {edits: []}}}) { __typename } }"""
    short, long = ["a", "b"], ["a" * 1_200, "b"]
    for both in (False, True):
        more = await cost(server, query, p=long, both=both) - await cost(server, query, p=short, both=both)
        assert more == round((1 + both) * 0.2 * (401 - 64) + 1.2)


async def test_as_many_tokens_as_a_request_may_have_are_within_the_limit(server: AppContext) -> None:
    settings = server.settings
    tokens = settings.max_request_tokens // settings.max_prompts
    prompts = ["a" * 3 * (tokens - 1)] * settings.max_prompts
    query = """query($p: [String!]!) { topNeurons(saeId: "x", prompts: $p, first: 5) {
      ... on TopNeurons { prompts { neurons { activation } } } } }"""
    assert await cost(server, query, p=prompts) < settings.max_query_cost
