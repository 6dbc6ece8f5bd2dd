"""The schema: all nouns together."""

from typing import Any

import strawberry
from graphql import GraphQLError, GraphQLInputObjectType
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from gql_server.api.activation_runs import ActivationRunMutations, ActivationRunQueries
from gql_server.api.attribution import AttributionQueries
from gql_server.api.changes import ChangeSubscriptions
from gql_server.api.common import SCALARS, object_type
from gql_server.api.concept_configs import ConceptConfigMutations, ConceptConfigQueries
from gql_server.api.concepts import ConceptMutations, ConceptQueries
from gql_server.api.context import OperationContext
from gql_server.api.contrast import ContrastQueries
from gql_server.api.evaluations import EvaluationMutations
from gql_server.api.exports import ExportMutations
from gql_server.api.generation import GenerationMutations, GenerationSubscriptions
from gql_server.api.job_events import EVENT_TYPES
from gql_server.api.job_requests import REQUEST_TYPES
from gql_server.api.jobs import JobMutations, JobQueries, JobSubscriptions
from gql_server.api.language_models import LanguageModelMutations, LanguageModelQueries
from gql_server.api.neuron_activations import NeuronActivationQueries
from gql_server.api.neuron_indexes import NeuronIndexMutations
from gql_server.api.neurons import NeuronQueries
from gql_server.api.nodes import NodeMutations, NodeQueries
from gql_server.api.operations.execution import Execution
from gql_server.api.operations.limits import Limits
from gql_server.api.operations.masking import shown_errors
from gql_server.api.operations.operation_log import OperationLog
from gql_server.api.operations.request_checks import RequestChecks
from gql_server.api.public_saes import PublicSaeQueries
from gql_server.api.refusals import HANDLERS
from gql_server.api.saes import SaeMutations, SaeQueries
from gql_server.api.search import SearchQueries
from gql_server.api.server import ServerQueries
from gql_server.api.server_status import ServerSubscriptions
from gql_server.api.stored_datasets import StoredDatasetMutations, StoredDatasetQueries
from gql_server.api.top_neurons import TopNeuronQueries
from gql_server.api.training_curves import TrainingCurveQueries, TrainingCurveSubscriptions
from models.enums import JobEventType, JobKind

if hidden := [type_ for type_ in JobEventType if type_ not in EVENT_TYPES]:
    raise TypeError(
        f"No object type shows {hidden[0]}: add one with @shows(JobEventType.{hidden[0]}) to gql_server/api."
    )
if unasked := [kind for kind in JobKind if kind not in REQUEST_TYPES]:
    raise TypeError(
        f"No object type shows what {unasked[0]} asks for: add one with @asks(JobKind.{unasked[0]}) to"
        " gql_server/api."
    )


@object_type
class Query(
    ServerQueries,
    NodeQueries,
    LanguageModelQueries,
    ActivationRunQueries,
    SaeQueries,
    TrainingCurveQueries,
    NeuronQueries,
    TopNeuronQueries,
    ContrastQueries,
    NeuronActivationQueries,
    AttributionQueries,
    ConceptQueries,
    ConceptConfigQueries,
    StoredDatasetQueries,
    JobQueries,
    SearchQueries,
    PublicSaeQueries,
):
    """What can be asked."""


@object_type
class Mutation(
    LanguageModelMutations,
    ActivationRunMutations,
    SaeMutations,
    NeuronIndexMutations,
    EvaluationMutations,
    ExportMutations,
    JobMutations,
    NodeMutations,
    ConceptMutations,
    ConceptConfigMutations,
    StoredDatasetMutations,
    GenerationMutations,
):
    """What can be done."""


@object_type
class Subscription(
    JobSubscriptions,
    TrainingCurveSubscriptions,
    ChangeSubscriptions,
    ServerSubscriptions,
    GenerationSubscriptions,
):
    """What can be followed."""


class Schema(strawberry.Schema):
    """A schema that hides the server's insides from clients."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Replace the errors in the very list that goes into the answer; every result's errors pass here."""
        errors[:] = shown_errors(errors, execution_context)


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[shown for shown, _ in (*EVENT_TYPES.values(), *REQUEST_TYPES.values())],
    extensions=[OperationContext, OperationLog, Limits, RequestChecks],
    exception_handlers=HANDLERS,
    execution_context_class=Execution,
    config=StrawberryConfig(scalar_map=SCALARS),
)


def _is_one_of(type_: Any, _info: Any) -> bool | None:
    """Answer __Type.isOneOf; Strawberry's own answer fails for lists and types that are not null."""
    if not isinstance(type_, GraphQLInputObjectType):
        return None
    is_one_of: bool = type_.extensions["strawberry-definition"].is_one_of
    return is_one_of


_introspected: Any = schema._schema.type_map["__Type"]
_introspected.fields["isOneOf"].resolve = _is_one_of


def export() -> str:
    """Return the schema in GraphQL's schema definition language."""
    return schema.as_str() + "\n"
