"""What was made, changed and deleted, so that lists in other tabs stay true."""

from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from gql_server.api.common import Node, argument, describe_enum, field, object_type, subscription
from gql_server.api.context import Info
from gql_server.api.nodes import node_of
from gql_server.api.pagination import unset_to_none
from gql_server.database.changes import ChangeKind, NodeKind

describe_enum(
    NodeKind,
    "What changes are told of.",
    {
        "LANGUAGE_MODEL": "Language models.",
        "STORED_DATASET": "Datasets that are kept.",
        "ACTIVATION_RUN": "Activation runs.",
        "SAE": "SAEs; a change of an SAE's neuron index is one of the SAE.",
        "CONCEPT": "Names of neurons.",
        "CONCEPT_CONFIG": "Concept configs.",
        "JOB": "Jobs; of their changes those of status, attempt and error, not progress.",
    },
)
describe_enum(
    ChangeKind,
    "What has become of something.",
    {
        "CREATED": "It is new.",
        "UPDATED": "It has changed, or was renamed.",
        "DELETED": "It is gone.",
        "RELOAD": (
            "Load all that you show. The first event of each connection, and where changes were left out:"
            " more than 1,000 of one transaction, or that were waiting for you to read them."
        ),
    },
)


@object_type
class NodeChange:
    """What has become of something; several changes of one thing may be told as one."""

    change: ChangeKind = strawberry.field(description="What has become of it.")
    kind: NodeKind | None = strawberry.field(description="What it is; null for RELOAD.")
    id: strawberry.ID | None = strawberry.field(description="Its ID; null for RELOAD.")

    @field
    async def node(self, info: Info) -> Node | None:
        """It as it is now; null where it has been deleted, and for RELOAD."""
        return await node_of(info, self.id) if self.id else None


@strawberry.type
class ChangeSubscriptions:
    """Subscriptions to changes."""

    @subscription
    async def changes(
        self,
        info: Info,
        kinds: Annotated[list[NodeKind] | None, argument("Only changes of these.")] = strawberry.UNSET,
    ) -> AsyncGenerator[NodeChange, None]:
        """What was made, changed, renamed and deleted, as it is committed. The first event is RELOAD: from
        then on nothing is missed, so load what you show when it comes. What happens while nobody is connected
        is not told; the RELOAD of the next connection stands for it. Never completes.
        """
        context, database = info.context, info.context.server.database
        with database.changes.watching(unset_to_none(kinds)) as watcher:
            while True:
                found = await watcher.next()
                context.renew_loaders()
                context.snapshot_key = ("change", found, database.commits)
                yield NodeChange(
                    change=found.change, kind=found.kind, id=strawberry.ID(found.id) if found.id else None
                )
