"""What this server can do, and how far it goes."""

import strawberry

import gql_server
from gql_server.api.common import BigInt, field, from_row, object_type
from gql_server.api.context import Info
from gql_server.api.server_status import ServerStatus, server_status
from gql_server.formats.sae_classes import BUILT_IN, RECOMMENDED
from gql_server.model_files.places import places
from gql_server.services import interactive


@object_type
class ServerLimits:
    """What a client may ask for; beyond that it is refused, with the limit in the message. docs/settings.md
    has the settings behind them.
    """

    max_query_characters: int = strawberry.field(description="Characters of a document.")
    max_query_tokens: int = strawberry.field(description="Tokens of a document.")
    max_variable_values: int = strawberry.field(description="Values in a request's variables.")
    max_query_depth: int = strawberry.field(description="Fields inside fields of an operation.")
    max_query_aliases: int = strawberry.field(description="Aliases and repeated fields of a document.")
    max_query_overlaps: int = strawberry.field(
        description="Pairs of fields of a document for one place of the answer."
    )
    max_query_cost: int = strawberry.field(
        description="Cost of an operation, which is in extensions.cost of each answer."
    )
    max_request_tokens: int = strawberry.field(
        description="Tokens of a request's prompts, together with those to be generated."
    )
    max_execution_seconds: float = strawberry.field(description="Time of a query or mutation.")
    max_body_bytes: BigInt = strawberry.field(description="Bytes of a request without files.")
    max_answer_bytes: BigInt = strawberry.field(description="Bytes of an answer, or of an event.")
    max_sockets: int = strawberry.field(description="WebSockets of all clients.")
    max_operations_per_socket: int = strawberry.field(description="Operations under way on a WebSocket.")
    max_queued_jobs: int = strawberry.field(description="Jobs that wait for a lane.")
    max_interactive_requests: int = strawberry.field(
        description="Top-neuron queries and generations of all clients that run or wait."
    )
    max_upload_bytes: BigInt = strawberry.field(description="Bytes of an upload, and of a dataset file.")
    max_texts: int = strawberry.field(description="Texts of a dataset.")
    max_text_characters: int = strawberry.field(description="Characters of a text or prompt.")
    max_prompts: int = strawberry.field(description="Prompts of a request.")
    max_batch_size: int = strawberry.field(description="Texts of a capture's batch.")
    max_length: int = strawberry.field(description="Tokens of a text in a capture.")
    max_epochs: int = strawberry.field(description="Epochs of a training.")
    max_training_batch_size: int = strawberry.field(description="Tokens of a training's batch.")
    max_latents: int = strawberry.field(description="Neurons of an SAE.")
    max_edits: int = strawberry.field(description="Edits of a concept config, or of a generation.")
    max_new_tokens: int = strawberry.field(description="Tokens to generate for a prompt.")
    max_artifact_bytes: BigInt | None = strawberry.field(
        description="Bytes of all artifacts; null where only the disk limits them."
    )


@object_type
class SaeClassInfo:
    """An SAE class that can be trained."""

    name: str = strawberry.field(description="What TrainSaeInput.saeClass takes.")
    description: str = strawberry.field(
        description="Which latents it keeps, and what it is for; empty where another package says nothing."
    )
    recommended: bool = strawberry.field(description="Whether it is the one to begin with, and the default.")
    needs_k: bool = strawberry.field(description="Whether it takes TrainSaeInput.k, and needs it.")
    uses_l1_lambda: bool = strawberry.field(
        description="Whether TrainSaeInput.l1Lambda is what keeps its latents few."
    )
    built_in: bool = strawberry.field(description="Whether the server brings it, and no other package.")


@object_type
class Server:
    """What this server can do."""

    version: str = strawberry.field(description="Its release.")
    hub_enabled: bool = strawberry.field(
        description="Whether Hugging Face repositories may be named as sources."
    )
    resumes_jobs: bool = strawberry.field(
        description="Whether jobs go on by themselves after an interruption; Job.willResume says so of each."
    )
    limits: ServerLimits = strawberry.field(description="What a client may ask for.")

    @field
    async def sae_classes(self, info: Info) -> list[str]:
        """Names of the SAE classes that can be trained."""
        worker = await interactive.describe(info.context.server)
        return [sae_class.name for sae_class in worker.sae_classes]

    @field
    async def sae_class_infos(self, info: Info) -> list[SaeClassInfo]:
        """The SAE classes that can be trained, the recommended one first."""
        worker = await interactive.describe(info.context.server)
        classes = sorted(worker.sae_classes, key=lambda one: (one.name != RECOMMENDED, one.name))
        return [
            SaeClassInfo(
                name=one.name,
                description=one.description,
                recommended=one.name == RECOMMENDED,
                needs_k=one.needs_k,
                # Where k is given it fixes how many latents there are: l1Lambda is then 0 by default.
                uses_l1_lambda=not one.needs_k,
                built_in=one.name in BUILT_IN,
            )
            for one in classes
        ]

    @field
    async def devices(self, info: Info) -> list[str]:
        """Where a training can be computed; the first is where this server computes if not told."""
        return (await interactive.describe(info.context.server)).devices

    @field
    async def language_model_paths(self, info: Info) -> list[str]:
        """Directories with a config.json and .gguf files under the server's model directories, up to two
        directories deep, 100 at most; addLanguageModel takes them, and says where one is no whole model.
        """
        server = info.context.server
        return await server.readers.files.run(places, server.settings.model_dirs)

    @field
    async def status(self, info: Info) -> ServerStatus:
        """How it is now, at most a second ago; the subscription serverStatus follows it."""
        return server_status(await info.context.server.monitor.status(info.context.server))


@strawberry.type
class ServerQueries:
    """Queries about the server."""

    @field
    async def server(self, info: Info) -> Server:
        """This server, and what it can do."""
        settings = info.context.server.settings
        return Server(
            version=gql_server.__version__,
            hub_enabled=settings.hub_enabled,
            resumes_jobs=settings.resume_jobs,
            limits=from_row(ServerLimits, settings),
        )
