"""Concept configs: named sets of edits, checked and kept as rows and as JSON files."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.files import atomic_write
from gql_server.errors import Conflict, InvalidInput
from gql_server.services import lookup
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.concepts import known_latent_count
from gql_server.services.removals import remove_after_commit
from gql_server.services.requests import EditRequest, SaveConceptConfigRequest
from gql_server.settings import Settings
from models import ConceptConfig, Sae
from models.base import now


async def save(
    server: AppContext, request: SaveConceptConfigRequest
) -> tuple[ConceptConfig | None, list[EditRequest], Sae]:
    """Create a config, or replace the edits of one; or only check and normalize.

    Raises:
        InvalidInput: An edit or the name cannot be right.
        NotFound: There is no such SAE or config.
        Conflict: The name is in use, or the config's version has moved on.
    """
    async with server.database.write() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        checks = Checks()
        checks.name("name", request.name)
        check_edits(checks, ["edits"], request.edits, known_latent_count(sae), server.settings.max_edits)
        checks.done()
        config = await _existing(session, request)
        await _check_name(session, request)
        edits = normalize(request.edits)
        if request.validate_only:
            return None, edits, sae
        if config is None:
            config = _new(session, sae)
        config.name = request.name
        config.edits = [asdict(edit) for edit in edits]
        config.version += 1
        config.updated_at = now()
        await session.flush()
        write_file(server.settings, config)
    return config, edits, sae


def check_edits(
    checks: Checks, path: Sequence[str], edits: Sequence[EditRequest], n_latents: int, limit: int
) -> None:
    """Note every edit of an unknown neuron, of one that is edited already, or without finite numbers.

    More than ``limit`` edits are noted as too many, and not checked.
    """
    if len(edits) > limit:
        checks.require(False, path, f"There are {len(edits):,} edits; the limit is {limit:,}.")
        return
    seen: set[int] = set()
    for place, edit in enumerate(edits):
        neuron = edit.neuron_index
        checks.whole_number([*path, place, "neuronIndex"], neuron, 0, n_latents - 1)
        message = f"Neuron {neuron} is edited twice; put both into one edit."
        checks.require(neuron not in seen, [*path, place, "neuronIndex"], message)
        seen.add(neuron)
        checks.float32([*path, place, "multiplier"], edit.multiplier, "A multiplier")
        checks.float32([*path, place, "bias"], edit.bias, "A bias")


def normalize(edits: Sequence[EditRequest]) -> list[EditRequest]:
    """Return the edits as they are applied: sorted by neuron, those without effect left out."""
    effective = [edit for edit in edits if edit.multiplier != 1 or edit.bias != 0]
    return sorted(effective, key=lambda edit: edit.neuron_index)


async def _existing(session: AsyncSession, request: SaveConceptConfigRequest) -> ConceptConfig | None:
    if request.id is None:
        if request.expected_version is not None:
            raise InvalidInput.at("expectedVersion", "A new config has no version yet; leave this out.")
        return None
    config = await lookup.get(session, ConceptConfig, request.id)
    if config.sae_id != request.sae_id:
        raise InvalidInput.at("saeId", f"The config belongs to the SAE {config.sae_id}.")
    if request.expected_version not in (None, config.version):
        raise Conflict(
            f"The config has version {config.version}, not {request.expected_version}; read it again.",
            config.id,
            code="VERSION_MISMATCH",
        )
    return config


async def _check_name(session: AsyncSession, request: SaveConceptConfigRequest) -> None:
    query = select(ConceptConfig.id).where(
        ConceptConfig.sae_id == request.sae_id, ConceptConfig.name == request.name
    )
    other = await session.scalar(query)
    if other not in (None, request.id):
        raise Conflict(f"The SAE has a config with the name {request.name!r}; choose another.", other)


def _new(session: AsyncSession, sae: Sae) -> ConceptConfig:
    id = ids.new(ids.CONCEPT_CONFIG)
    config = ConceptConfig(id=id, sae_id=sae.id, version=0, path=f"{sae.directory}/configs/{id}.json")
    session.add(config)
    return config


def write_file(settings: Settings, config: ConceptConfig) -> None:
    """Write a config's JSON file."""
    content = {
        "id": config.id,
        "name": config.name,
        "sae_id": config.sae_id,
        "version": config.version,
        "edits": config.edits,
    }
    path = settings.artifact_dir.resolve() / config.path
    atomic_write(path, json.dumps(content, ensure_ascii=False, indent=2).encode())


async def delete(server: AppContext, id: str) -> None:
    """Delete a config and its file."""
    async with server.database.write() as session:
        config = await lookup.get(session, ConceptConfig, id)
        await session.delete(config)
        path = server.settings.artifact_dir.resolve() / config.path
        await remove_after_commit(session, server.settings, [path])
