"""The cost of an operation: the number of values in its answer, and more for running a language model."""

from collections.abc import Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    get_argument_values,
    get_named_type,
    get_variable_values,
)
from starlette.datastructures import UploadFile

from gql_server.api.operations.list_sizes import COLUMN_VALUE, Scope, scope_below, size_of
from gql_server.protocol.tasks import PASSES_OF_A_GRADIENT
from gql_server.services.neuron_conditions import NeuronOrder
from gql_server.services.top_texts import MAX_CONTEXT, TOKENS_AROUND

PER_PROMPT = 250
"""The cost of running a prompt through a language model, of 64 tokens or fewer."""
PER_PROMPT_TOKEN = 0.2
"""The same of each token beyond, so that all tokens that a request may have are within the limit."""
PER_NEW_TOKEN = 1
PER_UPLOAD = 2_000
"""The cost of a file, for each argument that it is used for."""
CHARACTERS_PER_COST = 1_000
"""Characters of arguments for a cost of 1."""
PER_PREVIEW = 250
"""The cost of looking at a dataset's beginning, of counting its tokens among it."""
PER_WATCH = 400
"""The cost of watching all jobs: every change of any of them has to be looked at."""
PER_LOOK = 100
"""The cost of looking at the workers, the queue and the disk."""
PER_SELECTION = 50
"""The cost of going over all of an SAE's neurons for a page of them, or over all names for a search."""
PER_NEIGHBOR = 25
"""The cost of going over them for what comes before or after one; those of a list are found together."""
PER_COLUMN = 200
"""The cost of a figure of all neurons, which for 65,536 of them is 350 kB."""
TEXT_TOKENS_PER_COST = 100
"""Tokens of text around top texts, without activations, for a cost of 1."""
CELLS_PER_COST = 50
"""Cells of a density for a cost of 1."""
POINTS_OF_A_TRAINING = 200
"""The most points that a training measures itself at; a curve of more has as many all the same."""
COLUMNS_OF_EACH_CURVE = 2
"""The steps and the token counts, which are read with the figures that are asked for."""


def cost_of(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: dict[str, Any],
) -> int | None:
    """Return the estimated cost of an operation of a valid document; of a subscription, each event's.

    Every field counts 1, times the entries of the lists that it is in (``list_sizes``). A prompt counts 250
    more and each of its tokens beyond 64, by its length, 0.2 more, for each pass; a token to be generated 1
    more, a page of ordered or filtered neurons 50 more (what comes before or after one 25), and so do a
    search and a look for public SAEs, a column of all neurons 200 more, 50 cells of a density 1 more, 100
    tokens of text beyond the 16 around top texts 1 more, ten numbers that are read for training curves 1
    more, the preview of a dataset 250 more, watching all jobs, training points or changes
    400 more, the server's status 100 more, 1,000 characters of an argument 1 more, an uploaded file 2,000
    more. None where the variables are refused: it will not be executed.
    """
    values = get_variable_values(schema, operation.variable_definitions or (), variables, max_errors=1)
    root = schema.get_root_type(operation.operation)
    if isinstance(values, list) or root is None:
        return None
    return round(_Walk(schema, fragments, values).selections(operation.selection_set, root, Scope()))


class _Walk:
    """Adds up costs, each fragment's once for every type and scope that it is spread in."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], variables: Any
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self._known: dict[tuple[str, str, Scope], float] = {}
        self._takings: dict[int, tuple[Any, float]] = {}

    def selections(self, node: SelectionSetNode, parent: GraphQLNamedType, scope: Scope) -> float:
        return sum(self._selection(one, parent, scope) for one in node.selections)

    def _selection(self, node: SelectionNode, parent: GraphQLNamedType, scope: Scope) -> float:
        if isinstance(node, FieldNode):
            return self._field(node, parent, scope)
        if isinstance(node, InlineFragmentNode):
            condition = node.type_condition
            narrowed = self._schema.type_map[condition.name.value] if condition else parent
            return self.selections(node.selection_set, narrowed, scope)
        assert isinstance(node, FragmentSpreadNode)
        return self._spread(node.name.value, parent, scope)

    def _spread(self, name: str, parent: GraphQLNamedType, scope: Scope) -> float:
        key = (name, parent.name, scope)
        if key not in self._known:
            fragment = self._fragments[name]
            narrowed = self._schema.type_map[fragment.type_condition.name.value]
            self._known[key] = self.selections(fragment.selection_set, narrowed, scope)
        return self._known[key]

    def _field(self, node: FieldNode, parent: GraphQLNamedType, scope: Scope) -> float:
        name = node.name.value
        definition = self._definition(parent, name)
        if definition is None:
            return 1  # __typename of a union
        try:
            arguments = get_argument_values(definition, node, self._variables)
        except GraphQLError:
            return 1  # It is refused before it is resolved.
        below = scope_below(scope, parent.name, name, arguments)
        taken = sum(self._taking(value) for value in arguments.values())
        inner = get_named_type(definition.type)
        each = 1.0
        if node.selection_set:
            each += self.selections(node.selection_set, inner, below)
        return size_of(parent.name, name, below) * each + _work(parent.name, name, below, arguments) + taken

    def _taking(self, value: Any) -> float:
        """Return the cost of an argument's value; one variable may be the value of many arguments."""
        if isinstance(value, str):
            return len(value) / CHARACTERS_PER_COST
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            if id(value) not in self._takings:
                self._takings[id(value)] = value, sum(self._taking(one) for one in inner)
            return self._takings[id(value)][1]
        return PER_UPLOAD if isinstance(value, UploadFile) else 0

    def _definition(self, parent: GraphQLNamedType, name: str) -> GraphQLField | None:
        if not isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
            return None
        return self._schema.get_field(parent, name)


def _work(type_name: str, field_name: str, below: Scope, arguments: Mapping[str, Any]) -> float:
    """Return the cost of a field besides its values."""
    match f"{type_name}.{field_name}":
        case "Sae.neurons":
            goes_over_all = arguments["orderBy"] != NeuronOrder.INDEX or arguments.get("filter")
            return PER_SELECTION if goes_over_all else 0
        case "Neuron.previousIndex" | "Neuron.nextIndex":
            goes_over_all = arguments["orderBy"] != NeuronOrder.INDEX or arguments.get("filter")
            return PER_NEIGHBOR if goes_over_all else 0
        case "Neuron.topTexts":
            beyond: int = min(arguments["contextTokens"], MAX_CONTEXT) - TOKENS_AROUND
            return 2 * max(0, beyond) * below.page / TEXT_TOKENS_PER_COST
        case "Sae.neuronColumns":
            columns: list[Any] = arguments["columns"]
            return PER_COLUMN * len(columns)
        case "Sae.neuronDensity":
            bins: int = max(0, arguments["bins"])
            return PER_SELECTION + bins * bins / CELLS_PER_COST
        case "Query.trainingCurves":
            # They are read whether they are selected or not.
            columns_read = below.curves * (COLUMNS_OF_EACH_CURVE + below.series)
            return columns_read * min(below.page, POINTS_OF_A_TRAINING) * COLUMN_VALUE
        case "Query.search" | "Query.publicSaes":
            return PER_SELECTION
        case "Query.topNeurons" | "Query.contrastNeurons" | "Query.neuronActivations":
            return _prompts(below)
        case "Query.datasetPreview":
            return PER_PREVIEW
        case "Query.attributeNeurons":
            passes: int = PASSES_OF_A_GRADIENT + max(0, arguments["ablate"])
            return passes * _prompts(below)
        case "Subscription.jobs" | "Subscription.trainingPoints" | "Subscription.changes":
            return PER_WATCH
        case "Server.status" | "Server.languageModelPaths" | "Subscription.serverStatus":
            return PER_LOOK
        case "Mutation.generate" | "Subscription.generation":
            variants = below.outputs / max(1, below.prompts)
            return variants * _prompts(below) + PER_NEW_TOKEN * below.outputs * below.tokens
    return 0


def _prompts(below: Scope) -> float:
    """Return the cost of a pass of all prompts."""
    return PER_PROMPT * below.prompts + PER_PROMPT_TOKEN * below.long_tokens
