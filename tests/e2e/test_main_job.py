"""The main job, whole, on a tiny transformer over HTTP and WebSocket: from nothing to a steered sentence."""

import asyncio
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file

from gql_server.artifacts.datasets import built_in_python_reference
from tests.e2e.by_hand import ByHand, assert_same_ranking
from tests.e2e.client import Api, api, load_model
from tests.support.server_process import RunningServer

BLOCKS = ["llamaforcausallm_model_layers_0", "llamaforcausallm_model_layers_1"]
PROMPTS = ["The for statement is used to iterate over the elements of a sequence.", "A string"]
GENERATED = """
    seed topTextsPath topTextsUrl sae { id }
    outputs { promptIndex prompt variant text finishReason elapsedMilliseconds
      tokens { index tokenId text logProbability alternatives { tokenId logProbability }
        topNeurons { neuron { index } activation tokenIndex } }
      topNeurons { neuron { index } activation tokenIndex } }"""


@dataclass(frozen=True)
class Made:
    """What the first steps have made."""

    language_model: str
    run: str
    sae: str
    capture_events: list[dict[str, Any]]
    train_events: list[dict[str, Any]]
    chosen: dict[str, Any]
    """What the server has said beforehand that it would choose."""


@pytest.fixture(scope="module")
async def made(tiny_server: RunningServer, tiny_model_dir: Path) -> Made:
    """Capture, train and index over the public API."""
    async with api(tiny_server.url) as client:
        language_model = await load_model(client, str(tiny_model_dir), "tiny")
        capture = {
            "languageModelId": language_model,
            "layers": BLOCKS[::-1],
            "dataset": {"builtIn": "PYTHON_REFERENCE"},
            "sampleLimit": 120,
            "batchSize": 8,
            "maxLength": 48,
        }
        run, capture_events = await client.run_job(
            "captureActivations", input=("CaptureActivationsInput!", capture)
        )
        train = {
            "activationRunId": run,
            "layer": BLOCKS[0],
            "saeClass": "TopKSae",
            "latentCount": 128,
            "k": 4,
            "batchSize": 256,
            "epochs": 3,
        }
        chosen = await client.do(
            "trainSae",
            "... on TrainingValidated { learningRate l1Lambda device k stepCount }",
            input=("TrainSaeInput!", train),
            validateOnly=("Boolean", True),
        )
        sae, train_events = await client.run_job("trainSae", input=("TrainSaeInput!", train))
        jobs = await client.ask("{ jobs(kind: [INDEX_NEURONS]) { nodes { id } } }")
        assert len(jobs["jobs"]["nodes"]) == 1
        assert (await client.follow(jobs["jobs"]["nodes"][0]["id"]))[-1]["status"] == "SUCCEEDED"
    return Made(language_model, run, sae, capture_events, train_events, chosen)


@pytest.fixture(scope="module")
def by_hand(made: Made, tiny_server: RunningServer, tiny_model_dir: Path) -> ByHand:
    """Give the same model and SAE without any of the server's code."""
    checkpoint = next((tiny_server.artifact_dir / "sae").glob(f"*/{made.sae}/sae.pt"))
    return ByHand(tiny_model_dir, checkpoint, block=0)


async def test_the_run_tells_what_was_captured_and_its_files_agree(
    client: Api, made: Made, tiny_server: RunningServer
) -> None:
    data = await client.ask(
        """query($id: ID!) { activationRun(id: $id) {
          status sampleCount batchCount tokenCount byteSize manifestPath layers { name hiddenSize }
          dataset { kind description sampleCount } job { status progress { fraction } } } }""",
        id=made.run,
    )
    run = data["activationRun"]
    manifest = json.loads((tiny_server.artifact_dir / run["manifestPath"]).read_text())
    batches = sorted((tiny_server.artifact_dir / "store" / "runs" / made.run).glob("batch_*"))
    masks = [load_file(b / "attention_masks" / "attention_mask.safetensors")["tensor"] for b in batches]
    assert run["status"] == "READY" and run["job"] == {"status": "SUCCEEDED", "progress": {"fraction": 1.0}}
    assert run["sampleCount"] == 120 and run["batchCount"] == len(batches) == 15
    assert run["tokenCount"] == sum(int(mask.sum()) for mask in masks) == manifest["token_count"]
    assert [layer["name"] for layer in run["layers"]] == BLOCKS
    assert {layer["hiddenSize"] for layer in run["layers"]} == {32}
    assert run["dataset"]["kind"] == "BUILT_IN" and manifest["run_id"] == made.run
    assert all((batch / BLOCKS[1] / "activations.safetensors").exists() for batch in batches)


async def test_events_are_numbered_without_gaps_and_progress_never_falls(made: Made) -> None:
    for events in (made.capture_events, made.train_events):
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        fractions = [e["progress"]["fraction"] for e in events if e["__typename"] == "JobProgressed"]
        assert fractions == sorted(fractions) and fractions[-1] == 1
    points = [e["point"] for e in made.train_events if e["__typename"] == "TrainingStepped"]
    assert (
        points and points[-1]["l0"] <= 4 and points[-1]["explainedVariance"] > points[0]["explainedVariance"]
    )


async def test_a_second_look_with_a_cursor_gives_the_rest(client: Api, made: Made) -> None:
    jobs = await client.ask("{ jobs(kind: [TRAIN_SAE]) { nodes { id lastSequence } } }")
    job = jobs["jobs"]["nodes"][0]
    assert [e["sequence"] for e in await client.follow(job["id"], after=job["lastSequence"] - 2)] == [
        job["lastSequence"] - 1,
        job["lastSequence"],
    ]
    assert await client.follow(job["id"], after=job["lastSequence"]) == []


async def test_the_sae_keeps_its_configuration_history_and_index(
    client: Api, made: Made, tiny_server: RunningServer
) -> None:
    data = await client.ask(
        """query($id: ID!) { sae(id: $id) { status inputSize latentCount k layer checkpointPath metadataPath
          trainingConfig { epochs batchSize k learningRate l1Lambda seed device }
          trainingHistory(maxPoints: 3) { step tokenCount explainedVariance }
          neuronIndex { status tokenCount sampleCount deadCount frequencyHistogram { edges counts }
            topTextsPath topTextsUrl } } }""",
        id=made.sae,
    )
    sae = data["sae"]
    points = [e["point"] for e in made.train_events if e["__typename"] == "TrainingStepped"]
    assert (sae["status"], sae["inputSize"], sae["latentCount"], sae["k"]) == ("READY", 32, 128, 4)
    assert sae["trainingConfig"]["epochs"] == 3 and sae["trainingConfig"]["learningRate"] > 0
    names = ("learningRate", "l1Lambda", "k", "device")
    assert {name: made.chosen[name] for name in names} == {
        name: sae["trainingConfig"][name] for name in names
    }
    assert made.chosen["stepCount"] == points[-1]["step"]
    assert len(sae["trainingHistory"]) == 3 and sae["trainingHistory"][-1]["step"] == points[-1]["step"]
    index = sae["neuronIndex"]
    assert index["status"] == "READY" and index["sampleCount"] == 120
    assert sum(index["frequencyHistogram"]["counts"]) == 128 - index["deadCount"]
    handed_out = httpx.get(tiny_server.url + index["topTextsUrl"]).json()
    assert handed_out == json.loads((tiny_server.artifact_dir / index["topTextsPath"]).read_text())
    assert {"metadata.json", "history.json", "sae.pt"} <= {
        path.name for path in (tiny_server.artifact_dir / sae["checkpointPath"]).parent.iterdir()
    }


async def test_the_liveliest_neurons_agree_with_a_computation_by_hand(
    client: Api, made: Made, by_hand: ByHand
) -> None:
    data = await client.ask(
        """query($id: ID!) { sae(id: $id) { neurons(first: 5, orderBy: MAX_ACTIVATION_DESC) {
          totalCount nodes {
          index frequency maxActivation meanActivation dead activationHistogram { edges counts }
          topTexts(first: 2) { text score token tokenIndex tokens { token activation } } } } } }""",
        id=made.sae,
    )
    texts = built_in_python_reference()[:120]
    encoded = [by_hand.tokenizer(text, truncation=True, max_length=48)["input_ids"] for text in texts]
    latents = [by_hand.latents(ids) for ids in encoded]
    together = torch.cat(latents)
    n_tokens = sum(int((~torch.isin(torch.tensor(ids), torch.tensor([0, 1, 2]))).sum()) for ids in encoded)
    neurons = data["sae"]["neurons"]["nodes"]
    assert data["sae"]["neurons"]["totalCount"] == 128
    expected_order = together.max(dim=0).values.sort(descending=True).values[:5]
    torch.testing.assert_close(
        torch.tensor([n["maxActivation"] for n in neurons]), expected_order, rtol=1e-4, atol=1e-4
    )
    for neuron in neurons:
        values = together[:, neuron["index"]]
        fired = values[values > 0]
        assert neuron["frequency"] == pytest.approx(len(fired) / n_tokens, rel=1e-4)
        assert neuron["meanActivation"] == pytest.approx(float(fired.mean()), rel=1e-3)
        assert sum(neuron["activationHistogram"]["counts"]) == len(fired)
        best = neuron["topTexts"][0]
        row = max(range(len(texts)), key=lambda i: float(latents[i][:, neuron["index"]].max()))
        assert best["text"] in texts[row]
        assert best["score"] == pytest.approx(float(latents[row][:, neuron["index"]].max()), rel=1e-4)
        assert best["tokenIndex"] == int(latents[row][:, neuron["index"]].argmax())
        assert "".join(token["token"] for token in best["tokens"]).removeprefix("<bos>") == best["text"]


async def test_contrasted_neurons_are_those_whose_means_by_hand_differ_most(
    client: Api, made: Made, by_hand: ByHand
) -> None:
    found = await client.get(
        "contrastNeurons",
        """... on ContrastedNeurons { neurons {
          neuron { index similarNeurons(first: 2) { neuron { index } cosine } }
          meanActivationA meanActivationB difference }
          neuronsB {
            neuron { index similarNeurons(first: 2) { neuron { index } cosine } }
            meanActivationA meanActivationB difference } }""",
        saeId=("ID!", made.sae),
        textsA=("[String!]!", PROMPTS[:1]),
        textsB=("[String!]!", PROMPTS[1:]),
        first=("Int!", 100),
    )
    means = []
    for prompts in (PROMPTS[:1], PROMPTS[1:]):
        encoded = [by_hand.tokenizer(prompt)["input_ids"] for prompt in prompts]
        special = torch.tensor(by_hand.tokenizer.all_special_ids)
        n_tokens = sum(int((~torch.isin(torch.tensor(ids), special)).sum()) for ids in encoded)
        together = torch.cat([by_hand.latents(ids) for ids in encoded])
        means.append(together.double().sum(dim=0) / n_tokens)
    difference = means[0] - means[1]
    assert found["neurons"]
    assert len(found["neurons"]) == min(100, int((difference > 1e-6).sum()))
    shown = [neuron["difference"] for neuron in found["neurons"]]
    expected = difference.sort(descending=True).values[: len(shown)].tolist()
    assert shown == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert len(found["neuronsB"]) == min(100, int((difference < -1e-6).sum()))
    lowest = difference.sort().values[: len(found["neuronsB"])].tolist()
    assert [one["difference"] for one in found["neuronsB"]] == pytest.approx(lowest, rel=1e-3, abs=1e-4)
    for neuron in found["neurons"] + found["neuronsB"]:
        index = neuron["neuron"]["index"]
        assert neuron["meanActivationA"] == pytest.approx(float(means[0][index]), rel=1e-3, abs=1e-4)
        assert neuron["meanActivationB"] == pytest.approx(float(means[1][index]), rel=1e-3, abs=1e-4)
        assert index not in [similar["neuron"]["index"] for similar in neuron["neuron"]["similarNeurons"]]


async def test_top_neurons_of_prompts_of_different_lengths_equal_encode_by_hand(
    client: Api, made: Made, by_hand: ByHand
) -> None:
    found = await client.get(
        "topNeurons",
        """... on TopNeurons { prompts { prompt tokens { index tokenId text special }
          neurons { neuron { index } activation tokenIndex }
          perToken { tokenIndex token neurons { neuron { index } activation } } } }""",
        saeId=("ID!", made.sae),
        prompts=("[String!]!", PROMPTS),
        first=("Int!", 6),
        perToken=("Boolean!", True),
    )
    for prompt, answer in zip(PROMPTS, found["prompts"], strict=True):
        ids = by_hand.tokenizer(prompt)["input_ids"]
        latents = by_hand.latents(ids)
        assert [token["tokenId"] for token in answer["tokens"]] == ids
        assert "".join(t["text"] for t in answer["tokens"] if not t["special"]) == prompt
        assert_same_ranking(answer["neurons"], latents.max(dim=0).values)
        for neuron in answer["neurons"]:
            column = latents[:, neuron["neuron"]["index"]]
            assert column[neuron["tokenIndex"]] == pytest.approx(float(column.max()), abs=1e-4)
        for token in answer["perToken"]:
            assert_same_ranking(token["neurons"], latents[token["tokenIndex"]])


def generate_input(made: Made, **more: Any) -> dict[str, tuple[str, Any]]:
    given = {"saeId": made.sae, "prompts": PROMPTS, "maxNewTokens": 8, "topLogProbabilities": 2} | more
    return {"input": ("GenerateInput!", given)}


async def test_generation_reports_what_a_plain_forward_pass_says(
    client: Api, made: Made, by_hand: ByHand
) -> None:
    generated = await client.do("generate", f"... on Generation {{ {GENERATED} }}", **generate_input(made))
    for output in generated["outputs"]:
        prompt_ids = by_hand.tokenizer(output["prompt"])["input_ids"]
        all_ids = prompt_ids + [token["tokenId"] for token in output["tokens"]]
        latents = by_hand.latents(all_ids)
        with torch.no_grad():
            log_probabilities = by_hand.model(torch.tensor([all_ids])).logits[0].log_softmax(-1)
        assert output["text"] == by_hand.tokenizer.decode(all_ids[len(prompt_ids) :])
        assert_same_ranking(output["topNeurons"], latents.max(dim=0).values)
        for token in output["tokens"]:
            position = len(prompt_ids) + token["index"] - 1
            expected = log_probabilities[position]
            assert token["tokenId"] == int(expected.argmax())
            assert token["logProbability"] == pytest.approx(float(expected.max()), abs=1e-3)
            assert [a["tokenId"] for a in token["alternatives"]] == expected.topk(2).indices.tolist()
            assert_same_ranking(token["topNeurons"], latents[position])


async def test_steering_changes_the_request_that_asks_for_it_and_no_other(client: Api, made: Made) -> None:
    before = await client.do("generate", f"... on Generation {{ {GENERATED} }}", **generate_input(made))
    live = before["outputs"][0]["topNeurons"][0]["neuron"]["index"]
    edits = [{"neuronIndex": live, "multiplier": 0, "bias": 50}]
    saved = await client.do(
        "saveConceptConfig",
        "... on ConceptConfigSaved { conceptConfig { id } edits { neuron { index } } }",
        input=("SaveConceptConfigInput!", {"saeId": made.sae, "name": "louder", "edits": edits}),
    )
    steering = {"source": {"conceptConfigId": saved["conceptConfig"]["id"]}}
    steered = await client.do(
        "generate",
        f"... on Generation {{ {GENERATED} }}",
        **generate_input(made, steering=steering, compareToBaseline=True),
    )
    after = await client.do("generate", f"... on Generation {{ {GENERATED} }}", **generate_input(made))
    baseline, changed = (
        [o for o in steered["outputs"] if o["variant"] == v] for v in ("BASELINE", "STEERED")
    )

    def tokens(outputs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        return [output["tokens"] for output in outputs]

    assert [(o["promptIndex"], o["variant"]) for o in steered["outputs"]] == [
        (0, "BASELINE"),
        (0, "STEERED"),
        (1, "BASELINE"),
        (1, "STEERED"),
    ]
    assert tokens(before["outputs"]) == tokens(after["outputs"]) == tokens(baseline)
    assert tokens(changed) != tokens(baseline)


async def test_error_preserving_steering_without_effect_is_exactly_the_baseline(
    client: Api, made: Made
) -> None:
    for edits in ([], [{"neuronIndex": 3, "multiplier": 1, "bias": 0}]):
        generated = await client.do(
            "generate",
            f"... on Generation {{ {GENERATED} }}",
            **generate_input(
                made, steering={"source": {"edits": edits}}, compareToBaseline=True, temperature=1
            ),
        )
        baseline, steered = (
            [o["tokens"] for o in generated["outputs"] if o["variant"] == v] for v in ("BASELINE", "STEERED")
        )
        assert baseline == steered


async def test_streamed_tokens_are_those_of_the_whole_answer(client: Api, made: Made) -> None:
    whole = await client.do(
        "generate", f"... on Generation {{ {GENERATED} }}", **generate_input(made, seed=7)
    )
    document = """subscription($input: GenerateInput!) { generation(input: $input) { __typename
        ... on GenerationToken { promptIndex variant token { index tokenId text logProbability } }
        ... on GenerationFinished { output { promptIndex text finishReason } } } }"""
    events = [
        event["generation"]
        async for event in client.listen(document, input=generate_input(made, seed=7)["input"][1])
    ]
    for output in whole["outputs"]:
        streamed = [
            event["token"]
            for event in events
            if event["__typename"] == "GenerationToken" and event["promptIndex"] == output["promptIndex"]
        ]
        assert [t["tokenId"] for t in streamed] == [t["tokenId"] for t in output["tokens"]]
        assert "".join(t["text"] for t in streamed) == output["text"]
    assert [e["__typename"] for e in events].count("GenerationFinished") == len(PROMPTS)


async def test_baseline_and_steered_tokens_come_side_by_side(client: Api, made: Made) -> None:
    document = """subscription($input: GenerateInput!) { generation(input: $input) { __typename
        ... on GenerationQueued { position loading }
        ... on GenerationStarted { seed promptTokens { text } }
        ... on GenerationToken { promptIndex variant token { index watched } }
        ... on GenerationFinished { output { promptIndex variant tokens { index } watched } } } }"""
    steering = {"source": {"edits": [{"neuronIndex": 3, "multiplier": 0, "bias": 5}]}}
    more = {
        "steering": steering,
        "compareToBaseline": True,
        "watchNeurons": [3, 1],
        "seed": 7,
        "prompts": ["one"],
    }
    given = generate_input(made, **more)["input"][1]

    async def listened() -> list[dict[str, Any]]:
        return [event["generation"] async for event in client.listen(document, input=given)]

    queued, started, *rest = await listened()
    assert queued == {"__typename": "GenerationQueued", "position": 0, "loading": False}
    assert (started["__typename"], started["seed"]) == ("GenerationStarted", 7)
    tokens = [event for event in rest if event["__typename"] == "GenerationToken"]
    outputs = [event["output"] for event in rest if event["__typename"] == "GenerationFinished"]
    assert [output["variant"] for output in outputs] == ["BASELINE", "STEERED"]
    both = min(len(output["tokens"]) for output in outputs)
    assert [event["variant"] for event in tokens[: 2 * both]] == ["BASELINE", "STEERED"] * both
    for output in outputs:
        n_tokens = len(started["promptTokens"][0]) + len(output["tokens"])
        assert [len(values) for values in output["watched"]] == [2] * n_tokens
    # A second time the baseline is there already.
    again = [event for event in await listened() if event["__typename"] == "GenerationToken"]
    n_baseline = len(outputs[0]["tokens"])
    assert [event["variant"] for event in again[:n_baseline]] == ["BASELINE"] * n_baseline
    order = ("BASELINE", "STEERED")
    assert again == sorted(tokens, key=lambda event: order.index(event["variant"]))


async def test_a_refused_generation_is_one_event_that_ends_the_stream(client: Api, made: Made) -> None:
    document = """subscription($input: GenerateInput!) { generation(input: $input) { __typename
        ... on InvalidInput { fields { path message } } } }"""
    wrong = generate_input(made, maxNewTokens=0)["input"][1]
    events = [event["generation"] async for event in client.listen(document, input=wrong)]
    assert [event["__typename"] for event in events] == ["InvalidInput"]
    assert events[0]["fields"][0]["path"] == ["maxNewTokens"]


async def test_top_texts_of_a_request_are_written_and_handed_out(
    client: Api, made: Made, tiny_server: RunningServer
) -> None:
    generated = await client.do(
        "generate", f"... on Generation {{ {GENERATED} }}", **generate_input(made, writeTopTexts=True)
    )
    handed_out = httpx.get(tiny_server.url + generated["topTextsUrl"]).json()
    assert handed_out == json.loads((tiny_server.artifact_dir / generated["topTextsPath"]).read_text())
    reported = {n["neuron"]["index"] for o in generated["outputs"] for n in o["topNeurons"]}
    assert reported <= {entry["neuron"] for entry in handed_out["neurons"]}
    assert httpx.get(f"{tiny_server.url}/top-texts/{made.sae}/..%2Fsae.pt").status_code == 404


async def test_an_export_says_that_it_is_for_the_models_own_activations(
    client: Api, made: Made, tiny_server: RunningServer
) -> None:
    await client.run_job("exportSae", input=("ExportSaeInput!", {"saeId": made.sae}))
    file = httpx.get(f"{tiny_server.url}/exports/{made.sae}/sae_lens.zip").content
    metadata = json.loads(zipfile.ZipFile(io.BytesIO(file)).read("cfg.json"))["metadata"]
    assert (metadata["model_from_pretrained_kwargs"], metadata["mi_crow_layer"]) == ({}, BLOCKS[0])


async def test_named_neurons_carry_their_concept(client: Api, made: Made) -> None:
    named = await client.do(
        "setConcept",
        "... on ConceptSet { concept { id name neuron { id index concept { name } } version } }",
        input=("SetConceptInput!", {"saeId": made.sae, "neuronIndex": 5, "name": "commas", "score": 0.5}),
    )
    imported = await client.do(
        "importConcepts",
        "... on ConceptsImported { importedCount skippedCount }",
        input=(
            "ImportConceptsInput!",
            {
                "saeId": made.sae,
                "source": {"csv": "neuron_idx,concept_name,score\n5,theirs,1\n6,dots,0.25\n"},
            },
        ),
    )
    data = await client.ask(
        """query($id: ID!, $node: ID!) { node(id: $node) { ... on Neuron { index concept { name } } }
          sae(id: $id) { concepts { nodes { name source neuron { index } } }
            neurons(filter: { hasConcept: true }) { nodes { index } } } }""",
        id=made.sae,
        node=named["concept"]["neuron"]["id"],
    )
    assert named["concept"]["neuron"]["concept"] == {"name": "commas"}
    assert (imported["importedCount"], imported["skippedCount"]) == (1, 1)
    assert data["node"] == {"index": 5, "concept": {"name": "commas"}}
    assert [n["index"] for n in data["sae"]["neurons"]["nodes"]] == [5, 6]


async def test_jobs_are_watched_as_they_change(client: Api, made: Made) -> None:
    watching = client.listen("subscription { jobs(kind: [INDEX_NEURONS]) { id status } }")
    first = asyncio.ensure_future(anext(watching))
    index = {"saeId": made.sae, "topTextsPerNeuron": 3}
    while not first.done():  # The subscription says nothing of its being there before a job does.
        await client.run_job("indexNeurons", input=("IndexNeuronsInput!", index))
    seen = [(await first)["jobs"]]
    while seen[-1]["status"] != "SUCCEEDED":
        seen.append((await anext(watching))["jobs"])
    order = ["QUEUED", "RUNNING", "SUCCEEDED"]
    statuses = [job["status"] for job in seen]
    assert statuses == sorted(statuses, key=order.index)


async def test_an_upload_is_captured_like_inline_texts(
    client: Api, made: Made, tiny_server: RunningServer
) -> None:
    operations = {
        "query": """mutation($input: CaptureActivationsInput!) { captureActivations(input: $input) {
            __typename ... on JobLaunched { job { id } } ... on InvalidInput { message } } }""",
        "variables": {
            "input": {
                "languageModelId": made.language_model,
                "layers": [BLOCKS[0]],
                "dataset": {"upload": {"file": None, "textField": "body"}},
            }
        },
    }
    form: Any = {
        "operations": (None, json.dumps(operations)),
        "map": (None, json.dumps({"0": ["variables.input.dataset.upload.file"]})),
        "0": ("texts.jsonl", b'{"body": "one text"}\n{"body": "another"}\n', "application/jsonl"),
    }
    unguarded = httpx.post(f"{tiny_server.url}/graphql", files=form)
    answer = httpx.post(
        f"{tiny_server.url}/graphql", files=form, headers={"GraphQL-Require-Preflight": "1"}
    ).json()
    launched = answer["data"]["captureActivations"]
    assert unguarded.status_code == 400
    assert launched["__typename"] == "JobLaunched", launched
    assert (await client.follow(launched["job"]["id"]))[-1]["status"] == "SUCCEEDED"
    data = await client.ask(
        """query($id: ID!) { job(id: $id) { result { ... on ActivationRun {
          sampleCount dataset { kind description } } } } }""",
        id=launched["job"]["id"],
    )
    assert data["job"]["result"] == {
        "sampleCount": 2,
        "dataset": {"kind": "UPLOAD", "description": "texts.jsonl"},
    }
