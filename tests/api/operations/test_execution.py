"""What an event of a subscription costs those that come after it: nothing."""

import gc
from pathlib import Path
from typing import Any

import pytest
from graphql import parse
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext, validate_document

from gql_server.api.context import Context
from gql_server.api.operations import documents, limits
from gql_server.api.schema import schema
from gql_server.services.app_context import AppContext
from models.enums import JobStatus
from tests.api.asking import ask, execute
from tests.support.job_logs import add_job, append_events
from tests.support.serving import serving

DOCUMENT = """subscription($id: ID!) { jobProgress(id: $id) {
  __typename sequence at job { id status } ... on JobLogged { message } } }"""
EVENTS = 300


async def objects_per_event(server: AppContext) -> float:
    """Return how many objects more there are for each of an ended job's later events."""
    job = await add_job(server)
    await append_events(server, job.id, EVENTS, JobStatus.SUCCEEDED)
    counts: dict[int, int] = {}
    sent = 0
    async for _ in await schema.subscribe(DOCUMENT, {"id": job.id}, Context(server)):
        if sent in (EVENTS // 3, EVENTS):
            gc.collect()
            counts[sent] = len(gc.get_objects())
        sent += 1
    return (counts[EVENTS] - counts[EVENTS // 3]) / (EVENTS - EVENTS // 3)


async def test_a_subscription_keeps_nothing_of_the_events_that_it_has_sent(server: AppContext) -> None:
    await objects_per_event(server)  # What is made once is made.
    assert await objects_per_event(server) < 1


async def test_trap_the_stock_executor_keeps_what_each_event_selected(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "execution_context_class", StrawberryGraphQLCoreExecutionContext)
    assert await objects_per_event(server) > 5


async def test_selections_of_one_type_in_several_places_are_told_apart(server: AppContext) -> None:
    one, two = [await add_job(server) for _ in range(2)]
    found = await ask(
        server,
        """query($one: ID!, $two: ID!) {
          a: job(id: $one) { id progress { fraction } } b: job(id: $two) { status progress { unit } }
          jobs { nodes { id progress { total } ...more } } }
        fragment more on Job { kind progress { completed } }""",
        one=one.id,
        two=two.id,
    )
    assert found["a"] == {"id": one.id, "progress": {"fraction": 0.0}}
    assert found["b"] == {"status": "RUNNING", "progress": {"unit": "TEXTS"}}
    shown = {"kind": "CAPTURE_ACTIVATIONS", "progress": {"total": None, "completed": 0}}
    assert found["jobs"]["nodes"] == [{"id": two.id} | shown, {"id": one.id} | shown]


async def test_a_document_is_parsed_and_validated_once_and_its_variables_are_not_shared(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    validated: list[Any] = []

    def counted(text: str, **options: Any) -> Any:
        parsed.append(text)
        return parse(text, **options)

    def counted_validation(*arguments: Any) -> Any:
        validated.append(arguments)
        return validate_document(*arguments)

    monkeypatch.setattr(documents, "parse", counted)
    monkeypatch.setattr(limits, "validate_document", counted_validation)
    document = "query($id: ID!, $more: Boolean = false) { job(id: $id) { id status @include(if: $more) } }"
    jobs = [await add_job(server) for _ in range(2)]
    found = [await ask(server, document, id=job.id, more=job is jobs[1]) for job in jobs]
    assert found == [{"job": {"id": jobs[0].id}}, {"job": {"id": jobs[1].id, "status": "RUNNING"}}]
    assert parsed == [document]
    assert len(validated) == 1


async def test_a_mistake_is_found_again_and_again(server: AppContext) -> None:
    for _ in range(2):
        result = await execute(server, "{ jobs { nothing } }")
        assert result.errors and "Cannot query field" in result.errors[0].message


async def test_what_is_valid_with_introspection_is_not_without(server: AppContext, tmp_path: Path) -> None:
    query = "{ __schema { queryType { name } } }"
    assert (await execute(server, query)).errors is None
    async with serving(tmp_path / "another", introspection=False) as another:
        assert (await execute(another, query)).errors
    assert (await execute(server, query)).errors is None


@pytest.mark.parametrize("document", ["{ jobs {", "query { } }", "{ jobs { nodes { id } } } extra"])
async def test_a_mistake_in_a_document_is_told_as_ever(server: AppContext, document: str) -> None:
    for _ in range(2):
        result = await execute(server, document)
        assert result.errors is not None and result.errors[0].message.startswith("Syntax Error")
