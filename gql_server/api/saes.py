"""SAEs, and the mutations that train and delete them."""

from datetime import datetime
from typing import Annotated

import strawberry

from gql_server import errors
from gql_server.api import activation_runs, concept_configs, concepts, jobs, language_models, neurons
from gql_server.api.common import (
    Deleted,
    DeleteResult,
    Node,
    argument,
    field,
    from_row,
    mutation,
    object_type,
)
from gql_server.api.context import Info
from gql_server.api.enums import ArtifactStatus, InputNormalization, NeuronColumn, NeuronOrder, SaeOrigin
from gql_server.api.evaluations import SaeEvaluation, sae_evaluation
from gql_server.api.exports import SaeExport, exports_of
from gql_server.api.launches import LaunchResult, job_launched, training_validated
from gql_server.api.loaders import EvaluationsKey, TrainingPointsKey
from gql_server.api.neuron_columns import NeuronColumns, NeuronDensity, columns_of, density_of
from gql_server.api.neuron_filters import OfNeurons, OrderBy
from gql_server.api.neuron_indexes import NeuronIndex, neuron_index
from gql_server.api.pagination import After, Connection, First, children_connection, listing, unset_to_none
from gql_server.api.provenance import SaeProvenance, sae_provenance
from gql_server.api.references import (
    ActivationRunRef,
    ConceptConfigRef,
    ConceptRef,
    JobRef,
    LanguageModelRef,
    NeuronRef,
)
from gql_server.api.sae_fits import SaeFit, sae_fit
from gql_server.api.training import (
    SaeOutliers,
    TrainingConfig,
    TrainingPoint,
    TrainSaeInput,
    sae_outliers,
    training_config,
    training_point_of_row,
)
from gql_server.services import lookup, pages, saes as sae_service
from models import Sae as SaeRow


@object_type
class Sae(Node):
    """A sparse autoencoder over the activations of one layer."""

    row: strawberry.Private[SaeRow]
    name: str = strawberry.field(description="A name for people.")
    status: ArtifactStatus = strawberry.field(description="Whether it can be used.")
    origin: SaeOrigin = strawberry.field(description="How it came to be here.")
    sae_class: str | None = strawberry.field(
        description=(
            "The registered SAE class, e.g. TopKSae or L1Sae. Null, like the sizes, until an import has"
            " read it."
        )
    )
    layer: str = strawberry.field(description="The layer that it was made for, as Layer.name.")
    input_layer: str = strawberry.field(description="The layer that it reads; the same as layer.")
    output_layer: str = strawberry.field(
        description=(
            "The layer that its reconstructions are of: inputLayer, unless it is a transcoder. Evaluations"
            " compare with it, and steering changes it."
        )
    )
    input_size: int | None = strawberry.field(description="Width of the activations, n_inputs.")
    latent_count: int | None = strawberry.field(description="Number of neurons, n_latents.")
    k: int | None = strawberry.field(description="Active neurons per token, where the class fixes it.")
    input_normalization: InputNormalization = strawberry.field(
        description=(
            "How it normalizes each token before it encodes it. An edit of steering is then as long as the"
            " token's own scale makes it. NONE, too, until an import has read it."
        )
    )
    training_config: TrainingConfig | None = strawberry.field(
        description="How it was trained; null until the training has begun."
    )
    outliers: SaeOutliers | None = strawberry.field(
        description=(
            "What outliers of its run do to its explained variance; null until READY, where it was imported,"
            " and where an earlier version trained it."
        )
    )
    evaluation: SaeEvaluation | None = strawberry.field(
        description="The newest one; null until there is one."
    )
    fit: SaeFit | None = strawberry.field(
        description=(
            "Whether it fits the layer, as its import found; null where it was trained here, was not checked"
            " (the job's log says why), or where an earlier version imported it: evaluateSae says it then."
        )
    )
    checkpoint_path: str | None = strawberry.field(
        description="Its weights. Relative to the artifact directory."
    )
    metadata_path: str | None = strawberry.field(
        description="Its configuration and metrics. Relative to the artifact directory."
    )
    provenance: SaeProvenance | None = strawberry.field(
        description=(
            "What it takes to make the same again; null until READY, and where an earlier version made it."
        )
    )
    exports: list[SaeExport] = strawberry.field(
        description="What has been written of it for other libraries."
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")
    completed_at: datetime | None = strawberry.field(description="When it got READY.")

    @field
    async def language_model(self, info: Info) -> LanguageModelRef:
        """The model whose activations it is for."""
        return await language_models.language_model_of(info, self.row.language_model_id)

    @field
    async def language_model_matches(self, info: Info) -> bool | None:
        """Whether the language model's files are those that it was made with, or accepted in their place.
        Null where that is not known: the files have gone, or were not hashed since they changed.
        """
        return await language_models.matches(info, self.row.language_model_id, self.row)

    @field
    async def activation_run(self, info: Info) -> ActivationRunRef | None:
        """The run that it was trained on."""
        return await activation_runs.activation_run_of(info, self.row.activation_run_id)

    @field
    async def jobs(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[JobRef]:
        """The jobs that make it or work on it: its training or import, indexes, evaluations and exports."""
        return await children_connection(info, pages.JOBS_OF_RESULT, self.id, jobs.job, first, after)

    @field
    async def job(self, info: Info) -> JobRef | None:
        """The job that makes it: a training or an import."""
        return await jobs.job_of(info, self.row.job_id)

    @field
    async def training_history(
        self, info: Info, max_points: Annotated[int, argument("1 to 10,000.")] = 200
    ) -> list[TrainingPoint]:
        """At most maxPoints points, spread evenly over the training, the last one included."""
        rows = await info.context.loaders.training_points.load(TrainingPointsKey(self.id, max_points))
        return [training_point_of_row(row) for row in rows]

    @field
    async def evaluations(
        self, info: Info, first: Annotated[int, argument("How many to give, 1 to 100.")] = 20
    ) -> list[SaeEvaluation]:
        """Its evaluations, newest first; 100 are kept. Of those by an earlier version, the last one."""
        rows = await info.context.loaders.evaluations.load(EvaluationsKey(self.id, first))
        return [sae_evaluation(row.result) for row in rows]

    @field
    async def neuron_index(self, info: Info) -> NeuronIndex | None:
        """Null until its neurons have been indexed over an activation run."""
        row = await info.context.loaders.neuron_indexes.load(self.id)
        return neuron_index(row) if row else None

    @field
    def neuron(self, index: Annotated[int, argument("Counted from 0.")]) -> NeuronRef | None:
        """Null if there is no such index."""
        return neurons.neuron_if_any(self.row, index)

    @field
    async def neurons(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        order_by: OrderBy = NeuronOrder.INDEX,
        filter: OfNeurons = strawberry.UNSET,
        offset: Annotated[
            int | None,
            argument(
                "The page begins behind so many neurons of the list, anywhere; not together with after."
            ),
        ] = strawberry.UNSET,
    ) -> Connection[NeuronRef]:
        """Its neurons."""
        return await neurons.neuron_connection(info, self.row, first, after, order_by, filter, offset)

    @field
    async def neuron_columns(
        self,
        info: Info,
        columns: Annotated[list[NeuronColumn], argument("Which figures, 1 to 8 of them.")],
    ) -> NeuronColumns | None:
        """Figures of all neurons at once, for histograms, scatter plots and maps. Null until they are
        indexed, and where an earlier version made the index and one of the columns is not in it:
        indexNeurons makes it anew.
        """
        return await columns_of(info, self.row, columns)

    @field
    async def neuron_density(
        self,
        info: Info,
        x: Annotated[NeuronColumn, argument("The figure from left to right.")],
        y: Annotated[NeuronColumn, argument("The figure from bottom to top.")],
        bins: Annotated[int, argument("Cells on each axis, 1 to 256.")] = 64,
        log: Annotated[
            bool,
            argument(
                "Whether to take log10 of figures, without neurons whose figure is 0; the map's never are."
            ),
        ] = True,
    ) -> NeuronDensity | None:
        """How many neurons lie where by two figures, for a heat map without all the points. Null as above."""
        return await density_of(info, self.row, x, y, bins, log)

    @field
    async def concepts(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        search: Annotated[
            str | None, argument("Only concepts whose name contains this, whatever the case.")
        ] = strawberry.UNSET,
    ) -> Connection[ConceptRef]:
        """Names of its neurons."""
        return await children_connection(
            info, pages.CONCEPTS_OF_SAE, self.id, concepts.concept, first, after, search
        )

    @field
    async def concept_configs(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[ConceptConfigRef]:
        """Ways to steer through it."""
        return await children_connection(
            info, pages.CONFIGS_OF_SAE, self.id, concept_configs.concept_config, first, after
        )


def sae(row: SaeRow) -> Sae:
    """Return a row as it is shown."""
    config = training_config(row.training_config) if row.training_config else None
    evaluation = sae_evaluation(row.evaluation) if row.evaluation else None
    return from_row(
        Sae,
        row,
        row=row,
        input_layer=row.layer,
        output_layer=row.output_layer or row.layer,
        training_config=config,
        evaluation=evaluation,
        outliers=sae_outliers(row.outliers) if row.outliers else None,
        fit=sae_fit(row.fit) if row.fit else None,
        provenance=sae_provenance(row.provenance),
        input_normalization=row.input_normalization or InputNormalization.NONE,
        exports=exports_of(row),
    )


async def sae_row_of(info: Info, id: str) -> SaeRow:
    """Return the SAE that a foreign key names. Raises NotFound where it has gone meanwhile."""
    row = await info.context.loaders.saes.load(id)
    if row is None:
        raise errors.NotFound(lookup.NAMES[SaeRow], id)
    return row


@strawberry.type
class SaeQueries:
    """Queries for SAEs."""

    @field
    async def saes(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        language_model_id: Annotated[
            strawberry.ID | None, argument("Only SAEs of this language model.")
        ] = strawberry.UNSET,
        activation_run_id: Annotated[
            strawberry.ID | None, argument("Only SAEs trained on this run.")
        ] = strawberry.UNSET,
        status: Annotated[ArtifactStatus | None, argument("Only SAEs in this state.")] = strawberry.UNSET,
    ) -> Connection[Sae]:
        """SAEs."""
        conditions = pages.having(
            SaeRow,
            language_model_id=unset_to_none(language_model_id),
            activation_run_id=unset_to_none(activation_run_id),
            status=unset_to_none(status),
        )
        return await listing(info, SaeRow, conditions, sae, first, after)

    @field
    async def sae(self, info: Info, id: Annotated[strawberry.ID, argument("ID of an SAE.")]) -> Sae | None:
        """An SAE; null if there is none with this ID."""
        row = await info.context.loaders.saes.load(id)
        return sae(row) if row else None


@strawberry.type
class SaeMutations:
    """Mutations of SAEs."""

    @mutation
    async def train_sae(
        self,
        info: Info,
        input: Annotated[TrainSaeInput, argument("What to train.")],
        validate_only: Annotated[
            bool, argument("Only check the input, and answer with what would be chosen: TrainingValidated.")
        ] = False,
    ) -> LaunchResult:
        """Queues a job that trains an SAE on a captured layer."""
        if validate_only:
            return training_validated(await sae_service.choose(info.context.server, input.request()))
        return job_launched(await sae_service.train(info.context.server, input.request()))

    @mutation
    async def delete_sae(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of the SAE.")]
    ) -> DeleteResult:
        """Deletes an SAE with its index, concepts, configs, evaluations and files. A Conflict while a job
        needs it.
        """
        await sae_service.delete(info.context.server, id)
        return Deleted(deleted_id=id)
