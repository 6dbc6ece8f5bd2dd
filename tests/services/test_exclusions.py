"""Exclusions from request to task and row: an SAE's own are the default of all that comes after."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gql_server.jobs.executor import TaskRun, WorkerLost
from gql_server.protocol.events import TrainingConfigChosen
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import OutlierStatistics, TrainResult
from gql_server.protocol.tasks import (
    AttributeNeurons,
    ContrastNeurons,
    EvaluateSae,
    FindTopNeurons,
    Generate,
    IndexNeurons,
    ReadNeuronActivations,
    Task,
    TrainSae,
)
from gql_server.services import evaluations, neuron_indexes, saes
from gql_server.services.app_context import AppContext
from gql_server.services.requests import DatasetRequest, EvaluateRequest, IndexRequest, TrainRequest
from models import NeuronIndex, Sae
from models.enums import ArtifactStatus, DatasetKind
from tests.api.asking import ask
from tests.support.fake_executor import FakeExecutor
from tests.support.job_logs import ended
from tests.support.refusals import problem_paths, refused
from tests.support.serving import add_language_model, add_run, add_sae, serving

CONFIG = TrainingConfigChosen(1, 100, 4, 0.001, 0.0, 0, "cpu", 2, 7.5, 3.25)
OUTLIERS = OutlierStatistics(3.25, 7.5, 1000, 17, 0.999, 0.625)
SHOWN = """query($id: ID!) { sae(id: $id) {
  trainingConfig { excludeFirstPositions excludeOutliers medianNorm }
  outliers { medianNorm multiple tokenCount outlierCount explainedVarianceWithOutliers
             explainedVarianceWithoutOutliers } } }"""

REFUSED = "... on InvalidInput { fields { path message } }"
ARGUMENTS = "excludeFirstPositions: $first, excludeOutliers: $outliers"
TOP = f"""query($id: ID!, $first: Int, $outliers: Float) {{
  found: topNeurons(saeId: $id, prompts: ["a"], {ARGUMENTS}) {{ {REFUSED} }} }}"""
CONTRAST = f"""query($id: ID!, $first: Int, $outliers: Float) {{
  found: contrastNeurons(saeId: $id, textsA: ["a"], textsB: ["b"], {ARGUMENTS}) {{ {REFUSED} }} }}"""
READ = f"""query($id: ID!, $first: Int, $outliers: Float) {{
  found: neuronActivations(saeId: $id, prompts: ["a"], neuronIndices: [0], {ARGUMENTS}) {{ {REFUSED} }} }}"""
ATTRIBUTE = f"""query($id: ID!, $first: Int, $outliers: Float) {{
  found: attributeNeurons(saeId: $id, prompt: "a", {ARGUMENTS}) {{ {REFUSED} }} }}"""
GENERATE = f"""mutation($id: ID!, $first: Int, $outliers: Float) {{
  found: generate(input: {{saeId: $id, prompts: ["a"], {ARGUMENTS}}}) {{ {REFUSED} }} }}"""


def script(task: Task, run: TaskRun) -> None:
    if isinstance(task, TrainSae):
        run.finish(TrainResult(8, CONFIG, None, None, OUTLIERS))
    else:
        run.finish(WorkerLost("The worker was killed."))


def train_request(run_id: str, **changes: Any) -> TrainRequest:
    request = TrainRequest(run_id, None, None, "TopKSae", None, 4, 1, 100, None, None, 0, None, True, None)
    return dataclasses.replace(request, **changes)


async def index_task(server: AppContext, executor: FakeExecutor, sae: Sae, **changes: Any) -> IndexNeurons:
    request = dataclasses.replace(IndexRequest(sae.id, None, 10, None), **changes)
    await ended(server, (await neuron_indexes.index(server, request)).job.id)
    task = executor.tasks[-1][1]
    assert isinstance(task, IndexNeurons)
    return task


async def test_a_training_gets_its_exclusions_and_the_sae_shows_them_and_its_index_has_them(
    tmp_path: Path,
) -> None:
    executor = FakeExecutor(script)
    async with serving(tmp_path, executor) as server:
        run = await add_run(server, await add_language_model(server))
        request = train_request(run.id, exclude_first_positions=2, exclude_outliers=7.5)
        job = await ended(server, (await saes.train(server, request)).job.id)
        shown = (await ask(server, SHOWN, id=job.artifact_id))["sae"]
        async with server.database.read() as session:
            sae = await session.get_one(Sae, job.artifact_id)
        task = await index_task(server, executor, sae)
        other = await index_task(server, executor, sae, exclude_first_positions=0, exclude_outliers=0.0)
        part = await index_task(server, executor, sae, exclude_outliers=20.0)
    training = executor.tasks[0][1]
    assert isinstance(training, TrainSae) and training.exclusions == Exclusions(2, 7.5)
    assert shown["trainingConfig"] == {"excludeFirstPositions": 2, "excludeOutliers": 7.5, "medianNorm": 3.25}
    assert shown["outliers"] == {
        "medianNorm": 3.25,
        "multiple": 7.5,
        "tokenCount": 1000,
        "outlierCount": 17,
        "explainedVarianceWithOutliers": 0.999,
        "explainedVarianceWithoutOutliers": 0.625,
    }
    assert task.exclusions == Exclusions(2, 7.5, 3.25)
    assert other.exclusions == Exclusions(0, None, 3.25)
    assert part.exclusions == Exclusions(2, 20.0, 3.25)


async def test_an_evaluation_has_the_saes_exclusions_unless_it_says_otherwise(tmp_path: Path) -> None:
    executor = FakeExecutor(script)
    async with serving(tmp_path, executor) as server:
        run = await add_run(server, await add_language_model(server))
        config = {"exclude_first_positions": 2, "exclude_outliers": 7.5, "median_norm": 3.25}
        sae = await add_sae(server, run, training_config=config)
        dataset = DatasetRequest(DatasetKind.INLINE, texts=["a", "b"])
        for changes in ({}, {"exclude_first_positions": 1}, {"exclude_outliers": 0.0}):
            request = EvaluateRequest(sae.id, dataset, 0, 2, None, **changes)
            await ended(server, (await evaluations.evaluate(server, request)).job.id)
        bad = EvaluateRequest(sae.id, dataset, 0, 2, None, exclude_outliers=0.5)
        assert problem_paths(await refused(server, lambda: evaluations.evaluate(server, bad))) == [
            ["excludeOutliers"]
        ]
    tasks = [task for _, task in executor.tasks if isinstance(task, EvaluateSae)]
    assert [task.exclusions for task in tasks] == [
        Exclusions(2, 7.5, 3.25),
        Exclusions(1, 7.5, 3.25),
        Exclusions(2, None, 3.25),
    ]


async def test_prompts_are_asked_about_without_what_the_sae_was_trained_without(tmp_path: Path) -> None:
    executor = FakeExecutor(script)
    async with serving(tmp_path, executor) as server:
        run = await add_run(server, await add_language_model(server))
        config = {"exclude_first_positions": 2, "exclude_outliers": 7.5, "median_norm": 3.25}
        sae = await add_sae(server, run, training_config=config)
        unmeasured = await add_sae(server, run)
        for query in (TOP, CONTRAST, READ, ATTRIBUTE, GENERATE):
            await ask(server, query, id=sae.id)
            await ask(server, query, id=sae.id, first=1, outliers=0)
            refusal = (await ask(server, query, id=unmeasured.id, outliers=10))["found"]
            assert refusal["fields"][0]["path"] == ["excludeOutliers"]
            assert "index its neurons with excludeOutliers first" in refusal["fields"][0]["message"]
            refusal = (await ask(server, query, id=sae.id, first=-1))["found"]
            assert refusal["fields"][0]["path"] == ["excludeFirstPositions"]
    asked = [task for _, task in executor.tasks]
    kinds = (FindTopNeurons, ContrastNeurons, ReadNeuronActivations, AttributeNeurons, Generate)
    assert [type(task) for task in asked] == [kind for kind in kinds for _ in range(2)]
    for task, expected in zip(asked, [Exclusions(2, 7.5, 3.25), Exclusions(1, None, 3.25)] * 5, strict=True):
        assert isinstance(task, kinds)
        assert task.exclusions == expected


async def test_an_sae_of_an_earlier_version_leaves_out_nothing_and_has_the_median_of_its_index(
    tmp_path: Path,
) -> None:
    executor = FakeExecutor(script)
    async with serving(tmp_path, executor) as server:
        run = await add_run(server, await add_language_model(server))
        sae = await add_sae(server, run, training_config={"epochs": 1, "batch_size": 2})
        first = await index_task(server, executor, sae)
        async with server.database.write() as session:
            session.add(
                NeuronIndex(
                    id="idx_measured",
                    sae_id=sae.id,
                    status=ArtifactStatus.READY,
                    top_texts_per_neuron=1,
                    provenance={"median_norm": 4.5},
                )
            )
        second = await index_task(server, executor, sae, exclude_outliers=10.0)
    assert first.exclusions == Exclusions()
    assert second.exclusions == Exclusions(0, 10.0, 4.5)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"exclude_first_positions": -1}, "excludeFirstPositions"),
        ({"exclude_first_positions": 16}, "excludeFirstPositions"),
        ({"exclude_outliers": -1.0}, "excludeOutliers"),
        ({"exclude_outliers": 1.0}, "excludeOutliers"),
        ({"exclude_outliers": float("nan")}, "excludeOutliers"),
        ({"exclude_outliers": float("inf")}, "excludeOutliers"),
    ],
)
async def test_exclusions_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], path: str
) -> None:
    async with serving(tmp_path, FakeExecutor(script)) as server:
        run = await add_run(server, await add_language_model(server))
        assert run.max_length == 16
        refusal = await refused(server, lambda: saes.train(server, train_request(run.id, **changes)))
        assert problem_paths(refusal) == [[path]]
        if changes != {"exclude_first_positions": 16}:
            sae = await add_sae(server, run)
            request = dataclasses.replace(IndexRequest(sae.id, None, 10, None), **changes)
            refusal = await refused(server, lambda: neuron_indexes.index(server, request))
            assert problem_paths(refusal) == [[path]]
