"""Lazy references between the files of the API, which know each other in circles.

In annotations these stand for the types; where an object is made, its module is imported as a whole.
"""

from typing import TYPE_CHECKING, Annotated

import strawberry

if TYPE_CHECKING:
    from gql_server.api.activation_runs import ActivationRun
    from gql_server.api.concept_configs import ConceptConfig
    from gql_server.api.concepts import Concept, ConceptRevision
    from gql_server.api.jobs import Job
    from gql_server.api.language_models import LanguageModel
    from gql_server.api.neurons import Neuron
    from gql_server.api.saes import Sae
    from gql_server.api.stored_datasets import StoredDataset

ActivationRunRef = Annotated["ActivationRun", strawberry.lazy("gql_server.api.activation_runs")]
ConceptRef = Annotated["Concept", strawberry.lazy("gql_server.api.concepts")]
ConceptRevisionRef = Annotated["ConceptRevision", strawberry.lazy("gql_server.api.concepts")]
ConceptConfigRef = Annotated["ConceptConfig", strawberry.lazy("gql_server.api.concept_configs")]
JobRef = Annotated["Job", strawberry.lazy("gql_server.api.jobs")]
LanguageModelRef = Annotated["LanguageModel", strawberry.lazy("gql_server.api.language_models")]
NeuronRef = Annotated["Neuron", strawberry.lazy("gql_server.api.neurons")]
SaeRef = Annotated["Sae", strawberry.lazy("gql_server.api.saes")]
StoredDatasetRef = Annotated["StoredDataset", strawberry.lazy("gql_server.api.stored_datasets")]
