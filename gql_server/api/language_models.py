"""Language models, and the mutations that add, load, unload and delete them."""

from datetime import datetime
from typing import Annotated

import strawberry

from gql_server import errors
from gql_server.api import activation_runs, saes
from gql_server.api.common import (
    BigInt,
    Conflict,
    Deleted,
    DeleteResult,
    InvalidInput,
    Node,
    NotFound,
    argument,
    field,
    from_row,
    input_type,
    mutation,
    object_type,
    one_of_input_type,
)
from gql_server.api.context import Info
from gql_server.api.enums import FloatType, LanguageModelStatus, LayerKind, SpecialTokenReason
from gql_server.api.launches import LaunchResult, job_launched
from gql_server.api.loaders import LanguageModelKey, TokenKey
from gql_server.api.pagination import After, Connection, First, children_connection, unset_to_none
from gql_server.api.references import ActivationRunRef, SaeRef
from gql_server.formats.sae_sources.places import Places
from gql_server.model_files.identity import conflict, fingerprint
from gql_server.services import language_models as language_model_service, lookup, model_identity, pages
from gql_server.services.model_identity import Artifact, LanguageModelState
from gql_server.services.requests import (
    UNCHANGED,
    AcceptLanguageModelRequest,
    AddLanguageModelRequest,
    LoadLanguageModelRequest,
    UpdateLanguageModelRequest,
)
from gql_server.tokens.options import counts_of, facts_of
from models import LanguageModel as LanguageModelRow
from models.enums import LanguageModelSourceKind

# --------------------------------------------------------------------------------- types


@object_type
class Layer:
    """A module of a language model whose output can be captured or steered, or what a module reads."""

    name: str = strawberry.field(
        description="Its mi_crow layer signature, e.g. llamaforcausallm_model_layers_9."
    )
    kind: LayerKind = strawberry.field(description="What part of the model it is.")
    depth: int | None = strawberry.field(
        description="The block that it belongs to, counted from 0; null outside the blocks."
    )
    module_class: str = strawberry.field(
        description="The name of its Python class; for INPUT, of the class of the module that reads."
    )
    width: int | None = strawberry.field(
        description=(
            "How many numbers it has for each token; null where an earlier version of the server has loaded "
            "the model last."
        )
    )
    hook_name: str | None = strawberry.field(
        description=(
            "What TransformerLens calls it, e.g. blocks.9.hook_resid_post or blocks.9.attn.hook_z, before "
            "it processes a model's weights; null where it has no name for it, or that is not known."
        )
    )


@object_type
class SpecialToken:
    """A token that a tokenizer marks, or of which somebody has said whether it counts."""

    token_id: int = strawberry.field(description="Its number in the vocabulary.")
    text: str | None = strawberry.field(
        description="Its name; null where the tokenizer has no tokenizer.json to look it up in."
    )
    reason: SpecialTokenReason = strawberry.field(description="By what it is listed.")
    counts: bool = strawberry.field(
        description=(
            "Whether it counts as content: what does not is neither trained on nor measured, ranked or"
            " steered. Activation runs keep what was so when they were captured."
        )
    )
    decided: bool = strawberry.field(
        description="Whether somebody has decided so (updateLanguageModel), and not the tokenizer."
    )


@object_type
class LanguageModel(Node):
    """A causal language model that this server can load."""

    row: strawberry.Private[LanguageModelRow]
    name: str = strawberry.field(description="A name for people, unique among the models.")
    source: str = strawberry.field(
        description="Where its weights come from: a Hugging Face repository, a directory, or a GGUF file."
    )
    status: LanguageModelStatus = strawberry.field(
        description="In the worker for interactive work; jobs load it for themselves."
    )
    status_message: str | None = strawberry.field(description="Why it could not be loaded; null otherwise.")
    dtype: FloatType = strawberry.field(description="Precision of its weights in memory.")
    add_bos: bool | None = strawberry.field(
        description=(
            "Whether a BOS is written before texts and prompts that do not begin with one; null: as the"
            " tokenizer does."
        )
    )
    created_at: datetime = strawberry.field(description="When it was added.")

    @field
    def options_version(self) -> int:
        """How often its options were changed."""
        return self.row.options_version or 0

    @field
    def writes_bos(self) -> bool | None:
        """Whether anything is written before texts, by the tokenizer or by addBos. Null until the model has
        been loaded once.
        """
        return language_model_service.writes_bos(self.row)

    @field
    async def special_tokens(self, info: Info) -> list[SpecialToken] | None:
        """The tokens that its tokenizer marks in some way, or of which somebody has said whether they count;
        all others count. By their IDs. Null until the model has been loaded once.
        """
        facts = facts_of(self.row.tokenizer)
        if facts is None:
            return None
        said = counts_of(self.row.token_counts)
        marked = {token.token_id for token in facts.special_tokens}
        others = [token_id for token_id in said if token_id not in marked]
        keys = [TokenKey(self.row.id, token_id) for token_id in others]
        texts = await info.context.loaders.token_texts.load_many(keys)
        found = [
            SpecialToken(
                token_id=token.token_id,
                text=token.text,
                reason=SpecialTokenReason(token.reason),
                counts=said.get(token.token_id, token.counts),
                decided=token.token_id in said,
            )
            for token in facts.special_tokens
        ] + [
            SpecialToken(
                token_id=token_id,
                text=text,
                reason=SpecialTokenReason.SETTING,
                counts=said[token_id],
                decided=True,
            )
            for token_id, text in zip(others, texts, strict=True)
        ]
        return sorted(found, key=lambda token: token.token_id)

    @field
    async def architecture(self, info: Info) -> str | None:
        """The name of its class. Null, like the sizes, until the model has been loaded once, and where its
        files are another model's since.
        """
        return self.row.architecture if await self._described(info) else None

    @field
    async def parameter_count(self, info: Info) -> BigInt | None:
        """How many weights it has."""
        count = self.row.parameter_count
        return BigInt(count) if count is not None and await self._described(info) else None

    @field
    async def hidden_size(self, info: Info) -> int | None:
        """Width of the activations between its blocks."""
        return self.row.hidden_size if await self._described(info) else None

    @field
    async def vocabulary_size(self, info: Info) -> int | None:
        """How many tokens it knows."""
        return self.row.vocabulary_size if await self._described(info) else None

    @field
    async def fingerprint(self, info: Info) -> str | None:
        """What its files are now: the commit of a repository, or a SHA-256 over the hashes of configuration,
        weights and tokenizer (docs/provenance.md). Null until they have been hashed, which a load does.
        """
        state = await state_of(info, self.row)
        return None if state.origin is None else fingerprint(state.origin)

    async def _described(self, info: Info) -> bool:
        return (await state_of(info, self.row)).described

    @field
    async def layers(
        self,
        info: Info,
        kind: Annotated[LayerKind | None, argument("Only modules of this kind.")] = LayerKind.BLOCK,
    ) -> list[Layer] | None:
        """Its hookable modules, outermost first; all kinds for null. Null until the model has been loaded
        once, and where its files are another model's since. A module that runs several times in a forward
        pass, or gives no vector for each token, cannot be captured or steered and is left out.
        """
        if self.row.layers is None or not await self._described(info):
            return None
        hooks = Places(self.row.layers).hooks()
        return [
            Layer(
                name=layer["name"],
                kind=LayerKind(layer["kind"]),
                depth=layer["depth"],
                module_class=layer["module_class"],
                width=layer.get("width"),
                hook_name=hooks.get(layer["name"]),
            )
            for layer in self.row.layers
            if kind is None or layer["kind"] == kind
        ]

    @field
    async def activation_runs(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[ActivationRunRef]:
        """Runs with activations of this model."""
        return await children_connection(
            info, pages.RUNS_OF_LANGUAGE_MODEL, self.id, activation_runs.activation_run, first, after
        )

    @field
    async def saes(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[SaeRef]:
        """SAEs over this model's activations."""
        return await children_connection(info, pages.SAES_OF_LANGUAGE_MODEL, self.id, saes.sae, first, after)


async def state_of(info: Info, row: LanguageModelRow) -> LanguageModelState:
    """Return what is known of a model's files as they are now."""
    return await info.context.loaders.language_model_states.load(LanguageModelKey(row.id, row))


async def matches(info: Info, language_model_id: str, artifact: Artifact) -> bool | None:
    """Whether a model is what a run or an SAE was made with, or accepted; None where that is not known."""
    row = await info.context.loaders.language_models.load(language_model_id)
    if row is None:
        return None
    expected, state = model_identity.made_with(artifact, row), await state_of(info, row)
    return None if expected is None or state.origin is None else conflict(expected, state.origin) is None


def language_model(row: LanguageModelRow) -> LanguageModel:
    """Return a row as it is shown."""
    return from_row(LanguageModel, row, row=row)


async def language_model_of(info: Info, id: str) -> LanguageModel:
    """Return a model that a foreign key names. Raises NotFound where it has gone meanwhile."""
    row = await info.context.loaders.language_models.load(id)
    if row is None:
        raise errors.NotFound(lookup.NAMES[LanguageModelRow], id)
    return language_model(row)


# --------------------------------------------------------------------------------- queries


@strawberry.type
class LanguageModelQueries:
    """Queries for language models."""

    @field
    async def language_models(self, info: Info) -> list[LanguageModel]:
        """All language models, newest first."""
        async with info.context.server.database.read() as session:
            rows = await pages.all_newest_first(session, LanguageModelRow)
        return [language_model(row) for row in rows]

    @field
    async def language_model(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of a language model.")]
    ) -> LanguageModel | None:
        """A language model; null if there is none with this ID."""
        row = await info.context.loaders.language_models.load(id)
        return language_model(row) if row else None


# ------------------------------------------------------------------------------- mutations


@input_type
class HuggingFaceModelInput:
    """A language model of the Hugging Face Hub."""

    repository: str = strawberry.field(description="Owner and name, as the Hub spells them.")
    revision: str | None = strawberry.field(
        description="A branch, tag or commit; its main branch if left out."
    )


@one_of_input_type
class LanguageModelSourceInput:
    """Where a language model's weights come from."""

    hugging_face: HuggingFaceModelInput | None = strawberry.field(
        description="A repository of the Hugging Face Hub."
    )
    path: str | None = strawberry.field(
        description=(
            "A directory in Hugging Face format, or a .gguf file, under one of the server's model"
            " directories."
        )
    )


@input_type
class AddLanguageModelInput:
    """A language model to add."""

    name: str = strawberry.field(description="Unique among the models.")
    source: LanguageModelSourceInput = strawberry.field(description="Where its weights come from.")
    dtype: FloatType = strawberry.field(
        default=FloatType.FLOAT32,
        description=(
            "BFLOAT16 halves the memory, and is two to three times as fast where the processor has"
            " instructions for it."
        ),
    )

    def request(self) -> AddLanguageModelRequest:
        """Return what the service is asked for."""
        hub, path = self.source.hugging_face, self.source.path
        return AddLanguageModelRequest(
            name=self.name,
            kind=LanguageModelSourceKind.HUGGING_FACE if hub else None,
            location=hub.repository if hub else path or "",
            revision=hub.revision if hub else None,
            dtype=self.dtype,
        )


@object_type
class LanguageModelAdded:
    """The model is known now; loadLanguageModel loads it for the first time, and finds its layers."""

    language_model: LanguageModel = strawberry.field(description="The new model.")


AddLanguageModelResult = Annotated[
    LanguageModelAdded | InvalidInput | Conflict,
    strawberry.union("AddLanguageModelResult", description="What adding a language model came to."),
]


@input_type
class SpecialTokenInput:
    """Whether a token counts as content."""

    token_id: int = strawberry.field(description="Its number in the vocabulary.")
    counts: bool = strawberry.field(description="Whether it counts.")


@input_type
class UpdateLanguageModelInput:
    """Options of a language model; those left out stay as they are."""

    id: strawberry.ID = strawberry.field(description="ID of the language model, which was loaded once.")
    add_bos: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description=(
            "Whether a BOS is written before texts and prompts that do not begin with one: of captures,"
            " evaluations, top neurons, contrasts and generations. false also leaves out the one that the"
            " tokenizer writes; null is as the tokenizer does, and leaves chat templates alone."
        ),
    )
    special_tokens: list[SpecialTokenInput] | None = strawberry.field(
        default=strawberry.UNSET,
        description=(
            "All tokens about which the tokenizer is wrong, at most 1,000; instead of those given before."
            " Empty or null goes back to the tokenizer's own."
        ),
    )
    expected_version: int | None = strawberry.field(
        default=None,
        description="The optionsVersion that was read; a Conflict if somebody has changed them meanwhile.",
    )

    def request(self) -> UpdateLanguageModelRequest:
        """Return what the service is asked for."""
        tokens = self.special_tokens
        return UpdateLanguageModelRequest(
            id=self.id,
            add_bos=UNCHANGED if self.add_bos is strawberry.UNSET else self.add_bos,
            token_counts=UNCHANGED
            if tokens is strawberry.UNSET
            else [(token.token_id, token.counts) for token in tokens or ()],
            expected_version=self.expected_version,
        )


@object_type
class LanguageModelUpdated:
    """The options are changed: what begins now is done with them."""

    language_model: LanguageModel = strawberry.field(description="The model as it is now.")


UpdateLanguageModelResult = Annotated[
    LanguageModelUpdated | InvalidInput | NotFound | Conflict,
    strawberry.union("UpdateLanguageModelResult", description="What changing a model's options came to."),
]


@object_type
class LanguageModelUnloaded:
    """The model is not in the interactive worker's memory any more."""

    language_model: LanguageModel = strawberry.field(description="The model as it is now.")


UnloadLanguageModelResult = Annotated[
    LanguageModelUnloaded | NotFound | Conflict,
    strawberry.union("UnloadLanguageModelResult", description="What unloading a language model came to."),
]


@input_type
class AcceptLanguageModelInput:
    """A language model to accept as it is now, whose files are others than something was made with."""

    language_model_id: strawberry.ID = strawberry.field(description="The model.")
    fingerprint: str = strawberry.field(
        description="LanguageModel.fingerprint as you have seen it; a Conflict where it has changed since."
    )
    sae_id: strawberry.ID | None = strawberry.field(
        description=(
            "Accept it for what was made with the same files as this SAE; for all SAEs and runs of the model"
            " where neither is given."
        )
    )
    activation_run_id: strawberry.ID | None = strawberry.field(
        description="Accept it for what was made with the same files as this run."
    )

    def request(self) -> AcceptLanguageModelRequest:
        """Return what the service is asked for."""
        return AcceptLanguageModelRequest(
            self.language_model_id, self.fingerprint, self.sae_id, self.activation_run_id
        )


@object_type
class LanguageModelAccepted:
    """The model, as it is now, can be used with what was made with it as it was before."""

    language_model: LanguageModel = strawberry.field(description="The model.")


AcceptLanguageModelResult = Annotated[
    LanguageModelAccepted | NotFound | Conflict,
    strawberry.union("AcceptLanguageModelResult", description="What accepting a language model came to."),
]

Id = Annotated[strawberry.ID, argument("ID of the language model.")]


@strawberry.type
class LanguageModelMutations:
    """Mutations of language models."""

    @mutation
    async def add_language_model(
        self, info: Info, input: Annotated[AddLanguageModelInput, argument("The model to add.")]
    ) -> AddLanguageModelResult:
        """Makes a language model known to the server."""
        row = await language_model_service.add(info.context.server, input.request())
        return LanguageModelAdded(language_model=language_model(row))

    @mutation
    async def update_language_model(
        self, info: Info, input: Annotated[UpdateLanguageModelInput, argument("The options to change.")]
    ) -> UpdateLanguageModelResult:
        """Changes a model's options, all or none. Activation runs, SAEs and indexes stay what they are; what
        runs goes on with the options that it began with.
        """
        row = await language_model_service.update_options(info.context.server, input.request())
        return LanguageModelUpdated(language_model=language_model(row))

    @mutation
    async def load_language_model(
        self,
        info: Info,
        id: Id,
        idempotency_key: Annotated[
            str | None,
            argument(
                "A second request with the same key returns the first one's job; with the key but another"
                " model it is a Conflict."
            ),
        ] = strawberry.UNSET,
    ) -> LaunchResult:
        """Queues a job that loads a model into the worker for interactive work."""
        request = LoadLanguageModelRequest(id, unset_to_none(idempotency_key))
        return job_launched(await language_model_service.load(info.context.server, request))

    @mutation
    async def unload_language_model(self, info: Info, id: Id) -> UnloadLanguageModelResult:
        """Lets go of a model. A Conflict while a job or a generation uses it."""
        row = await language_model_service.unload(info.context.server, id)
        return LanguageModelUnloaded(language_model=language_model(row))

    @mutation
    async def accept_language_model(
        self, info: Info, input: Annotated[AcceptLanguageModelInput, argument("The model to accept.")]
    ) -> AcceptLanguageModelResult:
        """Has a model whose files have changed used with SAEs and runs that were made with it before. What is
        then made says by its hashes what it was computed with.
        """
        row = await model_identity.accept(info.context.server, input.request())
        return LanguageModelAccepted(language_model=language_model(row))

    @mutation
    async def delete_language_model(self, info: Info, id: Id) -> DeleteResult:
        """Forgets a model and the server's copy of it. A Conflict while a run or an SAE belongs to it."""
        await language_model_service.delete(info.context.server, id)
        return Deleted(deleted_id=id)
