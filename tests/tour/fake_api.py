"""An API of scripted answers, executed against schema.graphql: a wrong document fails here too."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from graphql import GraphQLSchema, build_schema, graphql

from gql_server.tour.client import checked

ROOT = Path(__file__).parents[2]
WORDS = ("exception", "module", "iterator")


def _schema() -> GraphQLSchema:
    return build_schema((ROOT / "schema.graphql").read_text())


class FakeApi:
    """A model, a run, an SAE and its neurons, all there already; jobs end at once.

    ``statuses`` are how jobs end, one launch or retry after the other, SUCCEEDED where there are no more.
    ``write`` gives the steered text for a bias.
    """

    def __init__(
        self,
        *,
        statuses: tuple[str, ...] = (),
        outcome: str = "CREATED",
        refusals: dict[str, str] | None = None,
        write: Callable[[float], str] = lambda bias: " an exception is raised",
        explorer: bool = True,
    ) -> None:
        self._schema = _schema()
        self._statuses = list(statuses)
        self._outcome = outcome
        self._refusals = refusals or {}
        self._write = write
        self._explorer = explorer
        self._jobs: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, document: str, **variables: Any) -> Any:
        answer = await graphql(self._schema, document, root_value=self, variable_values=variables)
        if answer.errors:
            raise answer.errors[0]
        assert answer.data is not None
        return checked(answer.data)

    async def events(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        progress = {"fraction": 0.5, "completed": 5, "total": 10, "unit": "TEXTS", "ratePerSecond": 7.0}
        point = {"explainedVariance": 0.75, "l0": 32.0, "deadFraction": None}
        yield {"__typename": "JobLogged", "sequence": 1, "message": "Loading [it]."}
        yield {"__typename": "JobProgressed", "sequence": 2, "progress": progress}
        yield {"__typename": "TrainingStepped", "sequence": 3, "point": point}
        yield {
            "__typename": "JobStatusChanged",
            "sequence": 4,
            "status": self._jobs[job_id]["status"],
            "error": None,
        }
        yield {"__typename": "SomethingNew", "sequence": 5}

    async def has_explorer(self) -> bool:
        return self._explorer

    def _answer(self, name: str, input: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((name, input))
        if name in self._refusals:
            return {"__typename": "Conflict", "code": "CONFLICT", "message": self._refusals[name]}
        return otherwise

    def _launch(self, name: str, input: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        status = self._statuses.pop(0) if self._statuses else "SUCCEEDED"
        id = f"job_{len(self._jobs)}"
        error = "The disk is full." if status == "FAILED" else None
        self._jobs[id] = {"id": id, "status": status, "error": error, "result": result}
        return self._answer(
            name, input, {"__typename": "JobLaunched", "outcome": self._outcome, "job": self._jobs[id]}
        )

    # The fields of Query and Mutation that the tour asks for.

    def languageModels(self, info: Any) -> list[dict[str, Any]]:
        return []

    def addLanguageModel(self, info: Any, input: dict[str, Any]) -> dict[str, Any]:
        added = {"__typename": "LanguageModelAdded", "languageModel": {"id": "lm_1", "name": input["name"]}}
        return self._answer("addLanguageModel", input, added)

    def languageModel(self, info: Any, id: str) -> dict[str, Any]:
        return {
            "name": "SmolLM2",
            "architecture": "LlamaForCausalLM",
            "parameterCount": 134_515_008,
            "hiddenSize": 576,
            "layers": [{"name": f"layers_{depth}", "depth": depth} for depth in range(30)],
        }

    def loadLanguageModel(self, info: Any, id: str) -> dict[str, Any]:
        return self._launch("loadLanguageModel", {"id": id}, {"__typename": "LanguageModel", "id": id})

    def captureActivations(self, info: Any, input: dict[str, Any]) -> dict[str, Any]:
        return self._launch("captureActivations", input, {"__typename": "ActivationRun", "id": "run_1"})

    def trainSae(self, info: Any, input: dict[str, Any], validateOnly: bool) -> dict[str, Any]:
        launched = self._launch("trainSae", input, {"__typename": "Sae", "id": "sae_1"})
        self._launch("indexNeurons", input, {"__typename": "Sae", "id": "sae_1"})
        return launched

    def evaluateSae(self, info: Any, input: dict[str, Any]) -> dict[str, Any]:
        return self._launch("evaluateSae", input, {"__typename": "Sae", "id": "sae_1"})

    def retryJob(self, info: Any, id: str) -> dict[str, Any]:
        return self._launch("retryJob", {"id": id}, self._jobs[id]["result"])

    def job(self, info: Any, id: str) -> dict[str, Any]:
        return self._jobs[id]

    def jobs(self, info: Any, **arguments: Any) -> dict[str, Any]:
        return {"nodes": list(reversed(self._jobs.values()))}

    def activationRun(self, info: Any, id: str) -> dict[str, Any]:
        return {
            "sampleCount": 1000,
            "tokenCount": 60_000,
            "byteSize": 140_000_000,
            "manifestPath": "store/m.json",
        }

    def sae(self, info: Any, id: str) -> dict[str, Any]:
        point = {
            "step": 10,
            "tokenCount": 10_240,
            "loss": 0.5,
            "explainedVariance": 0.75,
            "l0": 32.0,
            "deadFraction": None,
            "tokensPerSecond": 9000.0,
        }
        return {
            "latentCount": 4096,
            "k": 32,
            "layer": "layers_9",
            "trainingHistory": [point],
            "evaluation": {
                "tokenCount": 3456,
                "explainedVariance": 0.876,
                "l0": 31.5,
                "deadFraction": 0.0625,
                "ceLossOriginal": 3.25,
                "ceLossReconstructed": 3.375,
                "ceLossZeroAblated": 10.75,
                "ceLossRecovered": None,
            },
            "neurons": {"nodes": [neuron(index) for index in range(5)]},
        }

    def setConcept(self, info: Any, input: dict[str, Any]) -> dict[str, Any]:
        concept = {"id": "concept_1", "name": input["name"]}
        return self._answer("setConcept", input, {"__typename": "ConceptSet", "concept": concept})

    def topNeurons(self, info: Any, saeId: str, prompts: list[str], **arguments: Any) -> dict[str, Any]:
        found = {"activation": 3.5, "tokenIndex": 0, "neuron": {"index": 7, "concept": None}}
        prompt = {"tokens": [{"text": prompts[0]}], "neurons": [found]}
        return {"__typename": "TopNeurons", "prompts": [prompt]}

    def generate(self, info: Any, input: dict[str, Any]) -> dict[str, Any]:
        bias = input["steering"]["source"]["edits"][0]["bias"]
        texts = {"BASELINE": " it is so", "STEERED": self._write(bias)}
        outputs = [
            {"variant": variant, "text": text, "tokens": [{"text": token} for token in text.split()]}
            for variant, text in texts.items()
        ]
        return self._answer("generate", input, {"__typename": "Generation", "outputs": outputs})


def neuron(index: int) -> dict[str, Any]:
    """Return a neuron; of every third one all texts peak on one word."""
    texts = []
    for number in range(5):
        word = WORDS[0] if index % 3 == 2 else WORDS[number % 3]
        tokens = [("The", 0.0), (f" {word}", 4.0), (" is", 1.0), (" raised.", 0.0)]
        listed = [{"token": token, "activation": activation} for token, activation in tokens]
        texts.append({"token": f" {word}", "score": 4.0, "tokens": listed})
    statistics = {"index": index, "frequency": 0.004, "maxActivation": 4.0}
    return statistics | {"promotedTokens": [{"token": " raise"}, {"token": "\n"}], "topTexts": texts}
