"""The estimated length of each list of the schema, for costs: as the arguments say, else a guess."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_FIRST = 100

BLOCKS = 64
"""Layers of a language model, as a rule."""
PROMPT_TOKENS = 64
"""Of a prompt as a rule, and where it is not known."""
BYTES_PER_TOKEN = 3
"""Of a prompt in UTF-8: English has some four, other languages and code fewer."""
WINDOW_TOKENS = 24
"""Tokens around the peak of a top text."""
HISTOGRAM_BINS = 64
NUMBERS_OF_A_VALUE = 50
"""Numbers of a row that are as much work as a field."""
RECORDS = 20
"""Entries of a list without pages."""
EDITS = 20
FEW = 5
POINT = 0.25
"""A point of a training's history, which is read and made with hundreds of others, beside another value."""
COLUMN_VALUE = 0.1
"""A number in a column, which nothing has to be resolved for, beside another value."""
MAX_POINTS = 10_000


@dataclass(frozen=True)
class Scope:
    """What the arguments of the fields above say of the lists below them."""

    page: int = RECORDS
    """Entries of the connection, or neurons to report."""
    prompts: int = 1
    outputs: int = 1
    tokens: float = PROMPT_TOKENS
    """Tokens of each prompt, on average, or of each output."""
    long_tokens: int = 0
    """Tokens of all prompts, less PROMPT_TOKENS of each."""
    alternatives: int = 0
    watched: int = 0
    """Neurons watched at each token."""
    bins: int = 1
    """Ranges of example groups, or cells of a density on each axis."""
    per_token: bool = False
    curves: int = 1
    series: int = 1
    """Of trainings: SAEs, and figures of each."""
    one_type: bool = False
    """Whether introspection was asked for one type, which may be the largest."""


Size = Callable[[Scope], float]


def _always(number: float) -> Size:
    return lambda _: number


def _page(scope: Scope) -> float:
    return scope.page


def _numbers(scope: Scope) -> float:
    """Return what a row of numbers, one a token, counts."""
    return scope.tokens / NUMBERS_OF_A_VALUE


def _column(scope: Scope) -> float:
    return scope.page * COLUMN_VALUE


def _of_types(average: float, largest: float) -> Size:
    return lambda scope: largest if scope.one_type else average


SIZES: Mapping[str, Size] = {
    "Query.languageModels": _always(RECORDS),
    "Query.nodes": _page,
    "Query.search": _page,
    "PublicSaePage.nodes": _page,
    "LanguageModel.layers": _always(BLOCKS),
    "LanguageModel.specialTokens": _always(BLOCKS),
    "ActivationRun.layers": _always(FEW),
    "Sae.exports": _always(FEW),
    "SaeFit.warnings": _always(FEW),
    "TrainingConfig.groupFractions": _always(FEW),
    "TrainRequest.groupFractions": _always(FEW),
    "Sae.evaluations": _page,
    "Sae.trainingHistory": lambda scope: scope.page * POINT,
    "Query.trainingCurves": lambda scope: scope.curves,
    "TrainingCurve.steps": _column,
    "TrainingCurve.tokenCounts": _column,
    "TrainingCurve.series": lambda scope: scope.series,
    "TrainingSeries.values": _column,
    "ActivationRunProvenance.layers": _always(FEW),
    "ActivationRunProvenance.specialTokenIds": _always(FEW),
    "ActivationRunProvenance.beginTokenIds": _always(FEW),
    "ActivationRunProvenance.versions": _always(FEW),
    "LanguageModelProvenance.files": _always(FEW),
    "LanguageModelProvenance.tokenizerFiles": _always(FEW),
    "SaeProvenance.sourceFiles": _always(FEW),
    "SaeProvenance.versions": _always(FEW),
    "NeuronIndexProvenance.versions": _always(FEW),
    "Job.events": _page,
    "Dataset.texts": _page,
    "StoredDataset.columns": _always(FEW),
    "StoredDataset.preview": _page,
    "DatasetPreview.columns": _always(FEW),
    "DatasetPreview.texts": _page,
    "Neuron.conceptHistory": _always(RECORDS),
    "Job.log": _page,
    "CaptureRequest.layers": _always(FEW),
    "Neuron.topTexts": _page,
    "Neuron.promotedTokens": _page,
    "Neuron.suppressedTokens": _page,
    "Neuron.similarNeurons": _page,
    "TopText.tokens": _always(WINDOW_TOKENS),
    # Without an object for each.
    "TopText.tokenTexts": _always(WINDOW_TOKENS / 3),
    "TopText.activations": _always(WINDOW_TOKENS / 3),
    "Neuron.exampleGroups": lambda scope: scope.bins,
    "ExampleGroup.texts": _page,
    "Neuron.silentTexts": _page,
    "Neuron.similarNeuronTexts": _page,
    "Neuron.correlatedNeurons": _page,
    "NeuronColumns.columns": _page,
    "NeuronDensity.xEdges": _always(0),
    "NeuronDensity.yEdges": _always(0),
    "NeuronDensity.counts": _always(0),
    "Histogram.edges": _always(HISTOGRAM_BINS),
    "Histogram.counts": _always(HISTOGRAM_BINS),
    "ConceptConfig.edits": _always(EDITS),
    "ConceptConfigSaved.edits": _always(EDITS),
    "Server.saeClasses": _always(FEW),
    "Server.saeClassInfos": _always(FEW),
    "ServerStatus.workers": _always(2),
    "ServerStatus.artifactBytesByKind": _always(10),
    "WorkerStatus.lanes": _always(1),
    "WorkerStatus.busyWith": _always(1),
    "WorkerStatus.languageModels": _always(1),
    "Server.devices": _always(1),
    "Server.languageModelPaths": _always(RECORDS),
    "TopNeurons.prompts": lambda scope: scope.prompts,
    "PromptNeurons.tokens": lambda scope: scope.tokens,
    "PromptNeurons.neurons": _page,
    "PromptNeurons.perToken": lambda scope: scope.tokens if scope.per_token else 0,
    "TokenNeurons.neurons": _page,
    "ContrastedNeurons.neurons": _page,
    "ContrastedNeurons.neuronsB": _page,
    "NeuronActivations.prompts": lambda scope: scope.prompts,
    "PromptActivations.tokens": lambda scope: scope.tokens,
    "PromptActivations.rows": _page,
    "NeuronActivationRow.values": _numbers,
    "Attribution.tokens": lambda scope: scope.tokens,
    "Attribution.neurons": _page,
    "AttributedNeuron.tokenEffects": _numbers,
    "Generation.outputs": lambda scope: scope.outputs,
    "GenerationOutput.tokens": lambda scope: scope.tokens,
    "GenerationOutput.topNeurons": _page,
    "GeneratedToken.alternatives": lambda scope: scope.alternatives,
    "GeneratedToken.topNeurons": _page,
    "GeneratedToken.watched": lambda scope: scope.watched,
    "GenerationOutput.watched": lambda scope: scope.watched * (PROMPT_TOKENS + scope.tokens),
    "GenerationStarted.promptTokens": lambda scope: scope.prompts * PROMPT_TOKENS,
    "InvalidInput.fields": _always(FEW),
    "FieldError.path": _always(FEW),
    # Of all types the average, of one the largest. A type is wrapped once or twice, however deep is asked.
    "__Schema.types": _always(150),
    "__Schema.directives": _always(FEW),
    "__Type.fields": _of_types(5, 40),
    "__Type.inputFields": _of_types(1, 20),
    "__Type.interfaces": _of_types(0.5, 2),
    "__Type.possibleTypes": _of_types(0.7, 10),
    "__Type.enumValues": _of_types(1, 15),
    "__Type.ofType": _always(0.5),
    "__Field.args": _of_types(1, 8),
    "__Directive.args": _always(1),
    "__Directive.locations": _always(FEW),
}
"""By type and field. The lists of connections are not among them: their size is the page's."""


def size_of(type_name: str, field_name: str, scope: Scope) -> float:
    """Return how many entries a field has; 1 for what is no list."""
    if type_name.endswith("Connection") and field_name in ("edges", "nodes"):
        return scope.page
    size = SIZES.get(f"{type_name}.{field_name}")
    return size(scope) if size else 1


def scope_below(scope: Scope, type_name: str, field_name: str, arguments: Mapping[str, Any]) -> Scope:
    """Return what is known of the lists below a field, given its arguments."""
    match f"{type_name}.{field_name}":
        case "Query.topNeurons":
            prompts = arguments["prompts"]
            return Scope(
                page=_clamped(arguments["first"]),
                prompts=len(prompts),
                tokens=_mean_tokens(prompts),
                long_tokens=_long_tokens(prompts),
                per_token=arguments["perToken"],
            )
        case "Query.contrastNeurons":
            texts = [*arguments["textsA"], *arguments["textsB"]]
            return Scope(
                page=_clamped(arguments["first"]), prompts=len(texts), long_tokens=_long_tokens(texts)
            )
        case "Query.neuronActivations":
            return Scope(
                page=_clamped(len(arguments["neuronIndices"])),
                prompts=len(arguments["prompts"]),
                tokens=_mean_tokens(arguments["prompts"]),
                long_tokens=_long_tokens(arguments["prompts"]),
            )
        case "Query.attributeNeurons":
            prompts = [arguments["prompt"]]
            return Scope(
                page=_clamped(arguments["first"]),
                tokens=_mean_tokens(prompts),
                long_tokens=_long_tokens(prompts),
            )
        case "Mutation.generate" | "Subscription.generation":
            return _of_generation(arguments["input"])
        case "Query.nodes":
            return Scope(page=len(arguments["ids"]))
        case "Query.__type":
            return Scope(one_type=True)
        case "Job.log":
            return Scope(page=_clamped(arguments["last"]))
        case "Job.events" if arguments.get("last") is not None:
            return Scope(page=_clamped(arguments["last"]))
        case "Neuron.exampleGroups":
            return Scope(page=_clamped(arguments["perBin"]), bins=_clamped(arguments["bins"]))
        case "Sae.neuronColumns":
            return Scope(page=max(1, len(arguments["columns"])))
        case "Sae.trainingHistory":
            return Scope(page=min(max(1, arguments["maxPoints"]), MAX_POINTS))
        case "Query.trainingCurves":
            return Scope(
                page=min(max(1, arguments["maxPoints"]), MAX_POINTS),
                curves=len(arguments["saeIds"]),
                series=len(set(arguments["metrics"])),
            )
    first = arguments.get("first")
    return scope if first is None else Scope(page=_clamped(first))


def _of_generation(request: Any) -> Scope:
    prompts = len(request["prompts"])
    return Scope(
        page=max(0, request["topNeurons"]),
        prompts=prompts,
        outputs=prompts * (2 if request["compareToBaseline"] else 1),
        tokens=max(0, request["maxNewTokens"]),
        long_tokens=_long_tokens(request["prompts"]),
        alternatives=max(0, request["topLogProbabilities"]),
        watched=len(request.get("watchNeurons") or []),
    )


def tokens_of(text: str) -> int:
    """Return about how many tokens a prompt has, with one that the tokenizer writes before it."""
    # A text that is no valid Unicode is refused elsewhere.
    n_bytes = len(text) if text.isascii() else len(text.encode(errors="replace"))
    return 1 + n_bytes // BYTES_PER_TOKEN


def _mean_tokens(prompts: Sequence[str]) -> float:
    return sum(map(tokens_of, prompts)) / max(1, len(prompts))


def _long_tokens(prompts: Sequence[str]) -> int:
    return sum(max(0, tokens_of(prompt) - PROMPT_TOKENS) for prompt in prompts)


def _clamped(first: int) -> int:
    """Return the entries of a page; a resolver refuses what no page can have, with the field's name."""
    return min(max(first, 1), MAX_FIRST)
