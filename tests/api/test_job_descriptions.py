"""Jobs say what they are, what was asked for, and what they have told, in few statements."""

from typing import Any

import pytest
from graphql import GraphQLInterfaceType, build_schema

from gql_server import ids
from gql_server.api.schema import export
from gql_server.jobs import event_log, transitions
from gql_server.services import neuron_indexes, saes, stored_datasets
from gql_server.services.app_context import AppContext
from gql_server.services.requests import IndexRequest
from models import Job, Sae, StoredDataset
from models.enums import JobEventType, JobKind, JobStatus
from tests.api.asking import ask, counted_statements, first_error
from tests.support.requests import train_request
from tests.support.serving import add_language_model, add_run, add_sae, idle_job

ASKED = """request { __typename languageModel { name }
  ... on CaptureRequest { layers sampleOffset sampleLimit batchSize maxLength longTexts dtype
                          dataset { description } activationRun { name } }
  ... on TrainRequest { layer saeClass latentCount k epochs batchSize learningRate seed excludeFirstPositions
                        excludeOutliers indexNeurons groupFractions config { learningRate } sae { name }
                        activationRun { name } }
  ... on IndexRequest { topTextsPerNeuron excludeFirstPositions excludeOutliers sae { name } }
  ... on EvaluateRequest { dataset { kind description } sampleOffset sampleLimit sae { name } }
  ... on ImportRequest { layer outputLayer sourceFormat source checkFit }
  ... on ExportRequest { format sae { name } } }"""
TRAINED = {
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": None,
    "l1_lambda": None,
    "seed": 3,
    "device": None,
    "k": 4,
    "sae_class": "TopKSae",
    "index_neurons": True,
    "latent_count": None,
    "layer": None,
}
EVALUATED = {
    "dataset_kind": "INLINE",
    "dataset_description": "3 texts",
    "sample_offset": 0,
    "sample_limit": 9,
}


async def add(server: AppContext, kind: JobKind, result_id: str, **request: Any) -> str:
    job = idle_job(kind=kind, result_id=result_id, artifact_id=result_id, request=request)
    async with server.database.write() as session:
        session.add(job)
    return str(job.id)


async def described(server: AppContext, job: str) -> tuple[str, dict[str, Any]]:
    found = (await ask(server, f"query($id: ID!) {{ job(id: $id) {{ title {ASKED} }} }}", id=job))["job"]
    return found["title"], found["request"]


async def test_a_title_and_a_request_of_each_kind(server: AppContext) -> None:
    model = await add_language_model(server)
    run = await add_run(server, model, name="Python reference")
    config: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 64,
        "k": 4,
        "learning_rate": 0.5,
        "l1_lambda": 0.0,
        "seed": 3,
    }
    config |= {"device": "cpu", "exclude_first_positions": 2, "exclude_outliers": 10.0}
    sae = await add_sae(server, run, latent_count=4096, training_config=config)
    ids = {"language_model_id": model.id, "activation_run_id": run.id}
    lm, of_sae = {"languageModel": {"name": "tiny"}}, {"sae": {"name": "sae"}}

    load = await add(server, JobKind.LOAD_LANGUAGE_MODEL, model.id, language_model_id=model.id)
    assert await described(server, load) == ("Load tiny", {"__typename": "LoadRequest", **lm})

    capture = await add(server, JobKind.CAPTURE_ACTIVATIONS, run.id, **ids)
    asked = {
        "layers": ["m_layers_1"],
        "sampleOffset": 0,
        "sampleLimit": None,
        "batchSize": 2,
        "maxLength": 16,
    }
    asked |= {"longTexts": "TRUNCATE", "dtype": "FLOAT32", "dataset": {"description": "3 texts"}}
    assert await described(server, capture) == (
        "Capture block 1 of tiny on 3 texts",
        {"__typename": "CaptureRequest", **lm, **asked, "activationRun": {"name": "Python reference"}},
    )

    train = await add(server, JobKind.TRAIN_SAE, sae.id, **ids, **TRAINED)
    asked = {"layer": "m_layers_1", "saeClass": "TopKSae", "latentCount": 4096, "k": 4, "epochs": 2}
    asked |= {"batchSize": 64, "learningRate": None, "seed": 3, "excludeFirstPositions": 0}
    asked |= {
        "groupFractions": None,
        "excludeOutliers": None,
        "indexNeurons": True,
        "config": {"learningRate": 0.5},
        **of_sae,
    }
    assert await described(server, train) == (
        "Train TopKSae with 4,096 neurons on Python reference, block 1",
        {"__typename": "TrainRequest", **lm, **asked, "activationRun": {"name": "Python reference"}},
    )

    # What a request leaves open is the SAE's own; 0 is none.
    index = await add(
        server, JobKind.INDEX_NEURONS, sae.id, **ids, exclude_outliers=0, top_texts_per_neuron=7
    )
    asked = {"topTextsPerNeuron": 7, "excludeFirstPositions": 2, "excludeOutliers": None, **of_sae}
    assert await described(server, index) == (
        "Index sae over Python reference",
        {"__typename": "IndexRequest", **lm, **asked},
    )

    evaluate = await add(server, JobKind.EVALUATE_SAE, sae.id, language_model_id=model.id, **EVALUATED)
    asked = {"dataset": {"kind": "INLINE", "description": "3 texts"}, "sampleOffset": 0, "sampleLimit": 9}
    assert await described(server, evaluate) == (
        "Evaluate sae on 3 texts",
        {"__typename": "EvaluateRequest", **lm, **asked, **of_sae},
    )

    source = {"source": "/models/gemma/sae_1", "format": "SAE_LENS", "layer": {"name": "m_other"}}
    import_ = await add(server, JobKind.IMPORT_SAE, sae.id, language_model_id=model.id, **source)
    asked = {
        "layer": "m_other",
        "sourceFormat": "SAE_LENS",
        "source": "/models/gemma/sae_1",
        "checkFit": None,
    }
    assert await described(server, import_) == (
        "Import sae_1 (SAELens) for tiny, m_other",
        {"__typename": "ImportRequest", **lm, **asked, "outputLayer": None},
    )
    source["output_layer"] = {"name": "m_later", "kind": "MLP", "depth": 0, "width": 8}
    transcoder = await add(server, JobKind.IMPORT_SAE, sae.id, language_model_id=model.id, **source)
    assert (await described(server, transcoder))[1]["outputLayer"] == "m_later"

    to_export = await add(server, JobKind.EXPORT_SAE, sae.id, language_model_id=model.id, format="SAE_LENS")
    assert await described(server, to_export) == (
        "Export sae for SAELens",
        {"__typename": "ExportRequest", **lm, "format": "SAE_LENS", **of_sae},
    )


async def test_a_title_says_in_words_what_is_built_in(server: AppContext) -> None:
    run = await add_run(server, await add_language_model(server), dataset_description="PYTHON_REFERENCE")
    sae = await add_sae(server, run)
    about = {"language_model_id": run.language_model_id}
    capture = await add(server, JobKind.CAPTURE_ACTIVATIONS, run.id, **about, activation_run_id=run.id)
    on_it = EVALUATED | {"dataset_kind": "BUILT_IN", "dataset_description": "PYTHON_REFERENCE"}
    evaluate = await add(server, JobKind.EVALUATE_SAE, sae.id, **about, **on_it)

    assert (await described(server, capture))[0] == "Capture block 1 of tiny on the Python reference"
    assert (await described(server, evaluate))[0] == "Evaluate sae on the Python reference"


async def test_a_run_without_a_name_of_its_own_is_named_by_its_model_and_texts(server: AppContext) -> None:
    language_model = await add_language_model(server)
    capture = """mutation($id: ID!) { captureActivations(input: {
      languageModelId: $id, layers: ["m_layers_1"], maxLength: 16, dataset: {builtIn: PYTHON_REFERENCE} }) {
        ... on JobLaunched { job { result { ... on ActivationRun { name dataset { description } } } } } } }"""
    launched = await ask(server, capture, id=language_model.id)

    assert launched["captureActivations"]["job"]["result"] == {
        "name": "tiny on the Python reference",
        "dataset": {"description": "PYTHON_REFERENCE"},
    }


@pytest.mark.parametrize(
    ("run_name", "activations"),
    [
        ("Python reference, block 1", "Python reference, block 1"),
        ("Block 1 of tiny", "Block 1 of tiny"),
        ("Python reference, block 11", "Python reference, block 11, block 1"),
    ],
)
async def test_a_title_says_a_layer_once(server: AppContext, run_name: str, activations: str) -> None:
    run = await add_run(server, await add_language_model(server), name=run_name)
    sae = await add_sae(server, run, latent_count=32)
    about = {"language_model_id": run.language_model_id, "activation_run_id": run.id}
    train = await add(server, JobKind.TRAIN_SAE, sae.id, **about, **TRAINED)

    assert (await described(server, train))[0] == f"Train TopKSae with 32 neurons on {activations}"


async def test_the_request_of_an_evaluation_names_the_stored_dataset_until_that_is_deleted(
    server: AppContext,
) -> None:
    dataset = StoredDataset(
        id=ids.new(ids.DATASET),
        name="fifty",
        byte_size=9,
        sample_count=50,
        skipped_count=0,
        column_names=[],
    )
    async with server.database.write() as session:
        session.add(dataset)
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    asked = EVALUATED | {"dataset_kind": "STORED", "dataset_description": "fifty", "dataset_id": dataset.id}
    job = await add(server, JobKind.EVALUATE_SAE, sae.id, language_model_id=sae.language_model_id, **asked)
    query = """query($id: ID!) { job(id: $id) { request { ... on EvaluateRequest {
      dataset { kind description storedDataset { id name } } } } } }"""

    async def shown() -> dict[str, Any]:
        return dict((await ask(server, query, id=job))["job"]["request"]["dataset"])

    expected = {
        "kind": "STORED",
        "description": "fifty",
        "storedDataset": {"id": dataset.id, "name": "fifty"},
    }
    assert await shown() == expected
    await stored_datasets.delete(server, dataset.id)
    assert await shown() == expected | {"storedDataset": None}


@pytest.mark.parametrize(
    ("kind", "request_", "title"),
    [
        (JobKind.LOAD_LANGUAGE_MODEL, {}, "Load a deleted language model"),
        (JobKind.CAPTURE_ACTIVATIONS, {}, "Capture activations of a deleted language model"),
        (JobKind.TRAIN_SAE, TRAINED, "Train TopKSae on a deleted run"),
        (JobKind.INDEX_NEURONS, {}, "Index a deleted SAE over a deleted run"),
        (JobKind.EVALUATE_SAE, EVALUATED, "Evaluate a deleted SAE on 3 texts"),
        (JobKind.EXPORT_SAE, {"format": "SAE_LENS"}, "Export a deleted SAE for SAELens"),
        (JobKind.EXPORT_SAE, {"format": "SPARSIFY"}, "Export a deleted SAE for sparsify"),
        (
            JobKind.EXPORT_SAE,
            {"format": "NEURONPEDIA"},
            "Export the neurons of a deleted SAE for Neuronpedia",
        ),
        (JobKind.EXPORT_SAE, {"format": "PARQUET"}, "Export the neurons of a deleted SAE as Parquet"),
    ],
)
async def test_a_job_of_an_earlier_version_whose_subjects_are_gone_has_a_title_and_a_request(
    server: AppContext, kind: JobKind, request_: dict[str, Any], title: str
) -> None:
    gone = {"language_model_id": "lm_gone", "activation_run_id": "run_gone"}
    job = await add(server, kind, "sae_gone", **gone, **request_)
    assert (await described(server, job))[0] == title


async def test_a_launched_training_keeps_what_it_was_asked_with_defaults_filled_in(
    server: AppContext,
) -> None:
    model = await add_language_model(server)
    job = (await saes.train(server, train_request((await add_run(server, model)).id))).job
    title, request = await described(server, job.id)
    assert title == "Train TopKSae with 64 neurons on run, block 1"
    assert (request["layer"], request["latentCount"]) == ("m_layers_1", 64)
    assert (job.request["layer"], job.request["latent_count"]) == ("m_layers_1", 64), (
        "kept when all is deleted"
    )


async def test_an_index_that_follows_a_training_says_how_many_texts(server: AppContext) -> None:
    sae = await add_sae(server, run := await add_run(server, await add_language_model(server)))
    async with server.database.write() as session:
        await neuron_indexes.add(session, await session.get_one(Sae, sae.id), run.id, 10)
    job = (await ask(server, "{ jobs { nodes { id } } }"))["jobs"]["nodes"][0]["id"]
    assert (await described(server, job))[1]["topTextsPerNeuron"] == 10


async def test_titles_and_requests_of_a_list_take_a_statement_for_each_table(server: AppContext) -> None:
    model = await add_language_model(server)
    for number in range(6):
        sae = await add_sae(server, run := await add_run(server, model, name=f"run {number}"))
        ids = {"language_model_id": model.id, "activation_run_id": run.id}
        await add(server, JobKind.TRAIN_SAE, sae.id, **ids, **TRAINED)
        await add(server, JobKind.EVALUATE_SAE, sae.id, language_model_id=model.id, **EVALUATED)
        await add(server, JobKind.LOAD_LANGUAGE_MODEL, model.id, language_model_id=model.id)
        await add(server, JobKind.CAPTURE_ACTIVATIONS, run.id, **ids)
    with counted_statements(server) as statements:
        found = await ask(server, f"{{ jobs(first: 100) {{ nodes {{ title stage willResume {ASKED} }} }} }}")
    assert len({node["title"] for node in found["jobs"]["nodes"]}) == 6 + 1 + 1 + 1
    assert len(statements) == 4, statements  # The list; language models, runs and SAEs.


def test_request_fields_of_one_name_have_one_type_so_that_a_selection_can_take_them_all() -> None:
    built = build_schema(export())
    interface = built.type_map["JobRequest"]
    assert isinstance(interface, GraphQLInterfaceType)
    types: dict[str, set[str]] = {}
    for shown in built.get_possible_types(interface):
        for name, field in shown.fields.items():
            types.setdefault(name, set()).add(str(field.type))
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


# ---------------------------------------------------------------------------------- logs

RESUMED = JobEventType.TRAINING_RESUMED
TYPES = (JobEventType.LOG, JobEventType.LOG, JobEventType.PROGRESS, RESUMED)
PAYLOADS: dict[JobEventType, dict[str, Any]] = {
    JobEventType.LOG: {"message": "so"},
    JobEventType.TRAINING_RESUMED: {"step": 3},
    JobEventType.PROGRESS: {
        "fraction": 0.5,
        "completed": 1,
        "total": 2,
        "unit": "STEPS",
        "rate_per_second": None,
        "eta_seconds": None,
    },
}


async def add_log(server: AppContext, n_events: int, removed: int = 0) -> Job:
    job = idle_job(removed_sequence=removed)
    async with server.database.write() as session:
        session.add(job)
        for number in range(n_events):
            type_ = TYPES[number % len(TYPES)]
            await event_log.append(
                session, job, type_, PAYLOADS[type_] | ({"step": number} if "step" in PAYLOADS[type_] else {})
            )
    return job


def numbers(n_events: int, types: set[JobEventType] | None, after: int = 0) -> list[int]:
    """Return the numbers of the events of some types, by counting."""
    return [
        number + 1
        for number in range(n_events)
        if (types is None or TYPES[number % len(TYPES)] in types) and number + 1 > after
    ]


@pytest.mark.parametrize(
    ("arguments", "types", "slice_", "after"),
    [
        ("last: 3", None, slice(-3, None), 0),
        ("last: 100", None, slice(None), 0),
        ("types: [LOG], last: 4", {JobEventType.LOG}, slice(-4, None), 0),
        ("types: [LOG], first: 4", {JobEventType.LOG}, slice(0, 4), 0),
        (
            "types: [TRAINING_RESUMED, PROGRESS], first: 3, after: 7",
            {JobEventType.PROGRESS, JobEventType.TRAINING_RESUMED},
            slice(0, 3),
            7,
        ),
        ("types: [PROGRESS], last: 2, after: 20", {JobEventType.PROGRESS}, slice(-2, None), 20),
        ("types: [], last: 2", set(), slice(0, 0), 0),
        ("types: [STATUS]", {JobEventType.STATUS}, slice(0, 0), 0),
    ],
)
async def test_events_of_some_types_from_either_end(
    server: AppContext, arguments: str, types: set[JobEventType] | None, slice_: slice, after: int
) -> None:
    first, second = await add_log(server, 23), await add_log(server, 31)
    query = f"query($a: ID!, $b: ID!) {{ a: job(id: $a) {{ events({arguments}) {{ sequence }} }}"
    query += f" b: job(id: $b) {{ events({arguments}) {{ sequence }} }} }}"
    with counted_statements(server) as statements:
        found = await ask(server, query, a=first.id, b=second.id)
    for name, n_events in (("a", 23), ("b", 31)):
        shown = [event["sequence"] for event in found[name]["events"]]
        assert shown == numbers(n_events, types, after)[slice_]
    reads = [one for one in statements if "job_events" in one]
    assert len(reads) == 1, reads


async def test_a_log_is_its_newest_sentences_oldest_first(server: AppContext) -> None:
    job = await add_log(server, 23)
    query = "query($id: ID!) { job(id: $id) { log(last: 3) { sequence message } all: log { sequence } } }"
    found = (await ask(server, query, id=job.id))["job"]
    expected = numbers(23, {JobEventType.LOG})
    assert [entry["sequence"] for entry in found["log"]] == expected[-3:]
    assert [entry["sequence"] for entry in found["all"]] == expected


async def test_a_log_whose_beginning_retention_has_removed_gives_the_rest(server: AppContext) -> None:
    job = await add_log(server, 23, removed=18)
    query = "query($id: ID!) { job(id: $id) { log { sequence } events(last: 100) { sequence } } }"
    found = (await ask(server, query, id=job.id))["job"]
    assert [entry["sequence"] for entry in found["events"]] == [19, 20, 21, 22, 23]
    assert [entry["sequence"] for entry in found["log"]] == numbers(23, {JobEventType.LOG}, 18)


@pytest.mark.parametrize(
    "field", ["log(last: 0) { sequence }", "log(last: 101) { sequence }", "events(last: 101) { sequence }"]
)
async def test_more_than_a_page_of_a_log_is_refused_with_the_range(server: AppContext, field: str) -> None:
    job = await add_log(server, 1)
    error = await first_error(server, f"query($id: ID!) {{ job(id: $id) {{ {field} }} }}", id=job.id)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert "1 to 100" in error["message"]


# ---------------------------------------------------------------------------- jobs of what


async def test_jobs_of_an_artifact_are_those_that_make_it_or_work_on_it(server: AppContext) -> None:
    model = await add_language_model(server)
    run = await add_run(server, model)
    first, second = await add_sae(server, run), await add_sae(server, run)
    capture = await add(server, JobKind.CAPTURE_ACTIVATIONS, run.id, language_model_id=model.id)
    of_first = [await add(server, JobKind.TRAIN_SAE, first.id, **TRAINED)]
    of_first.append((await neuron_indexes.index(server, IndexRequest(first.id, None, 3, None))).job.id)
    of_second = [await add(server, JobKind.EVALUATE_SAE, second.id, **EVALUATED)]
    query = """query($id: ID!) { jobs(artifactId: $id) { totalCount nodes { id } }
      running: jobs(artifactId: $id, status: [RUNNING]) { nodes { id } } }"""
    found = await ask(server, query, id=first.id)
    assert [node["id"] for node in found["jobs"]["nodes"]] == of_first[::-1]
    assert found["jobs"]["totalCount"] == 2
    assert [node["id"] for node in found["running"]["nodes"]] == of_first[:1]
    with counted_statements(server) as statements:
        found = await ask(server, "{ saes { nodes { id jobs { nodes { id } } } } }")
    assert {node["id"]: [job["id"] for job in node["jobs"]["nodes"]] for node in found["saes"]["nodes"]} == {
        first.id: of_first[::-1],
        second.id: of_second,
    }
    assert len(statements) == 2, statements
    found = await ask(
        server, "query($id: ID!) { activationRun(id: $id) { jobs { nodes { id } } } }", id=run.id
    )
    assert found["activationRun"]["jobs"]["nodes"] == [{"id": capture}]


# ------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize(
    ("status", "resumptions", "resumes", "expected"),
    [
        (JobStatus.RUNNING, 0, True, True),
        (JobStatus.QUEUED, 2, True, True),
        (JobStatus.RUNNING, 0, False, False),
        (JobStatus.RUNNING, transitions.MAX_RESUMPTIONS, True, False),
        (JobStatus.INTERRUPTED, 0, True, False),
        (JobStatus.CANCELING, 0, True, False),
        (JobStatus.SUCCEEDED, 0, True, False),
    ],
)
def test_what_goes_on_by_itself(status: JobStatus, resumptions: int, resumes: bool, expected: bool) -> None:
    job = idle_job(status=status, resumptions=resumptions)
    assert transitions.will_resume(job, resumes=resumes) is expected
