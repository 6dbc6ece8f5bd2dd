"""What operators are told of a training: what it was asked for, and the figures that it came to."""

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.database.database import Database, after_commit
from gql_server.protocol.tasks import TrainSae
from models import Job, Sae, TrainingPoint
from models.enums import JobStatus

log = structlog.get_logger(__name__)


def log_training_started(session: AsyncSession, job: Job, task: TrainSae) -> None:
    """Tell of a training that begins, once that is committed."""

    async def tell(_: Database) -> None:
        log.info(
            "training started",
            job=job.id,
            sae=task.sae_id,
            run=task.run_id,
            sae_class=task.sae_class,
            layer=task.layer,
            latents=task.n_latents,
            k=task.k,
            epochs=task.epochs,
            batch_size=task.batch_size,
            seed=task.seed,
        )

    after_commit(session, tell)


async def log_training_ended(session: AsyncSession, job: Job, sae: Sae, status: JobStatus) -> None:
    """Tell of a training that ends, once that is committed, with the figures of its newest point."""
    if job.started_at is None or job.finished_at is None:
        return
    query = select(TrainingPoint).where(TrainingPoint.sae_id == sae.id)
    point = await session.scalar(query.order_by(TrainingPoint.step.desc()).limit(1))
    seconds = round((job.finished_at - job.started_at).total_seconds(), 3)

    async def tell(_: Database) -> None:
        log.info(
            "training ended",
            job=job.id,
            sae=sae.id,
            run=sae.activation_run_id,
            status=status,
            latents=sae.latent_count,
            k=sae.k,
            seconds=seconds,
            **_figures(point),
        )

    after_commit(session, tell)


def _figures(point: TrainingPoint | None) -> dict[str, object]:
    if point is None:
        return {"steps": 0}
    return {
        "steps": point.step,
        "tokens": point.token_count,
        "tokens_per_second": round(point.tokens_per_second, 1),
        "explained_variance": point.explained_variance,
        "l0": point.l0,
        "dead_fraction": point.dead_fraction,
    }
