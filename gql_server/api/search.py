"""Search over names and IDs."""

from typing import Annotated

import strawberry

from gql_server.api.activation_runs import ActivationRun
from gql_server.api.common import argument, field
from gql_server.api.concept_configs import ConceptConfig
from gql_server.api.context import Info
from gql_server.api.jobs import Job
from gql_server.api.language_models import LanguageModel
from gql_server.api.neurons import Neuron
from gql_server.api.nodes import nodes_of
from gql_server.api.pagination import unset_to_none
from gql_server.api.saes import Sae
from gql_server.api.stored_datasets import StoredDataset
from gql_server.services import search as search_service

SearchHit = Annotated[
    LanguageModel | Sae | ActivationRun | StoredDataset | ConceptConfig | Neuron | Job,
    strawberry.union("SearchHit", description="What a search finds; a neuron by its concept's name."),
]


@strawberry.type
class SearchQueries:
    """Queries for what a text may mean."""

    @field
    async def search(
        self,
        info: Info,
        text: Annotated[
            str,
            argument(
                "1 to 200 characters: words of a name, whatever the case of ASCII letters, eight at most; an"
                " ID, or its beginning with or without its kind; #12 for a neuron of saeId, or tiny #12 for"
                " one of each SAE that is called so."
            ),
        ],
        first: Annotated[int, argument("How many hits to give, 1 to 100.")] = 20,
        sae_id: Annotated[
            strawberry.ID | None,
            argument(
                "The SAE that is looked at: its neurons come before all that matches as well, and a number"
                " alone is one of them."
            ),
        ] = strawberry.UNSET,
    ) -> list[SearchHit]:
        """What a text may mean, for a command menu: language models, SAEs, runs, datasets and concept configs
        by their names, neurons of all SAEs by their concepts', all of these and jobs by their IDs. The best
        come first: an ID, a whole name, its beginning, the beginning of a word in it, a part of it. Behind
        them come jobs whose titles have the words, of the 200 newest.
        """
        found = await search_service.find(info.context.server, text, first, unset_to_none(sae_id))
        nodes = await nodes_of(info, found)
        return [node for node in nodes if node is not None]  # type: ignore[misc]
