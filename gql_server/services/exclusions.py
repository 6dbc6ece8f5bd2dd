"""Exclusions: which tokens an SAE was trained without, and what a request says of that."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.errors import InvalidInput
from gql_server.protocol.exclusions import Exclusions
from gql_server.services.checks import Checks
from models import NeuronIndex, Sae

MAX_POSITIONS = 1_000_000
MAX_MULTIPLE = 1e6


def check(
    checks: Checks, first_positions: int | None, outliers: float | None, most: int = MAX_POSITIONS
) -> None:
    """Note impossible exclusions; ``most`` is the limit of first positions."""
    if first_positions is not None:
        checks.whole_number("excludeFirstPositions", first_positions, 0, most)
    if outliers is not None:
        message = (
            f"Give 0, which leaves out none, or a multiple of the median above 1, up to {MAX_MULTIPLE:g}."
        )
        checks.require(outliers == 0 or 1 < outliers <= MAX_MULTIPLE, "excludeOutliers", message)


def of_sae(sae: Sae) -> Exclusions:
    """Return what an SAE was trained without; nothing where it was imported or is of an earlier version."""
    config = sae.training_config or {}
    return Exclusions(
        config.get("exclude_first_positions", 0),
        config.get("exclude_outliers"),
        config.get("median_norm"),
    )


async def chosen(
    session: AsyncSession, sae: Sae, first_positions: int | None, outliers: float | None
) -> Exclusions:
    """Return an SAE's own exclusions with what a request has in their place; 0 is none.

    The median is that of the SAE's training, else of its index; None where neither has measured it.
    """
    own = of_sae(sae)
    median = own.median_norm
    if median is None:
        median = await _median_of_index(session, sae)
    return Exclusions(
        own.first_positions if first_positions is None else first_positions,
        own.outliers if outliers is None else outliers or None,
        median,
    )


async def _median_of_index(session: AsyncSession, sae: Sae) -> float | None:
    query = select(NeuronIndex.provenance).where(NeuronIndex.sae_id == sae.id).order_by(NeuronIndex.id.desc())
    found: list[dict[str, Any] | None] = list(await session.scalars(query))
    medians = [one["median_norm"] for one in found if one is not None and one.get("median_norm") is not None]
    return medians[0] if medians else None


async def for_prompts(
    session: AsyncSession, sae: Sae, first_positions: int | None, outliers: float | None
) -> Exclusions:
    """Return the exclusions of a request about prompts, which cannot measure a median.

    Raises:
        InvalidInput: Outliers are asked for, and nothing says what the median is.
    """
    exclusions = await chosen(session, sae, first_positions, outliers)
    if exclusions.outliers is not None and exclusions.median_norm is None:
        raise InvalidInput.at(
            "excludeOutliers",
            "How long this SAE's activations are has not been measured, as it was not trained here or by an "
            "earlier version: index its neurons with excludeOutliers first.",
        )
    return exclusions
