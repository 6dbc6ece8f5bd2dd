"""SAEs that others have published, to look for and to import."""

from typing import Annotated

import strawberry

from gql_server.api.common import argument, field, object_type
from gql_server.api.context import Info
from gql_server.api.pagination import After, First, PageInfo, page_info, unset_to_none
from gql_server.api.sae_sources import SaeSourceFormat
from gql_server.formats.sae_sources.registry import FORMATS
from gql_server.services import public_saes
from gql_server.services.public_saes import FoundPublicSae


@object_type
class PublicSae:
    """An SAE of the Hugging Face Hub, as a list that comes with this server has it: what its names tell. What
    its files say is read when it is imported.
    """

    release: str = strawberry.field(description="The release that it belongs to, as SAELens calls it.")
    name: str = strawberry.field(description="What the release calls it.")
    repository: str = strawberry.field(description="Its repository on the Hub.")
    path: str = strawberry.field(description="Its directory or file there, as importSae takes it.")
    language_model: str = strawberry.field(
        description="The repository of the language model that it was trained on."
    )
    format: SaeSourceFormat | None = strawberry.field(
        description="The format of its files; null where it is none that is read."
    )
    architecture: str = strawberry.field(
        description="Its architecture in SAELens' words, such as jumprelu, as far as names tell it."
    )
    place: str = strawberry.field(
        description="Where its inputs come from, a hook of TransformerLens: blocks.12.hook_resid_post."
    )
    output_place: str | None = strawberry.field(
        description="Where a transcoder's outputs go; null of what gives back its own inputs."
    )
    depth: int | None = strawberry.field(description="The number of the block; null outside the blocks.")
    latent_count: int | None = strawberry.field(description="How many neurons; null where no name tells it.")
    l0: float | None = strawberry.field(
        description="Neurons that are active on a token, on average, as it is stated; null where it is not."
    )
    input_scale: float | None = strawberry.field(
        description=(
            "By what its inputs are to be multiplied, where its files do not hold it; null where they do, or"
            " where that is 1."
        )
    )
    layer: str | None = strawberry.field(
        description=(
            "The layer of languageModelId that puts out what it reads, as importSae takes it; null without a"
            " languageModelId, before its first load, or where none is known to."
        )
    )
    refusal: str | None = strawberry.field(
        description="Why it cannot be imported; null where it can, as far as names tell."
    )


@object_type
class PublicSaePage:
    """A page of the list of public SAEs, which have no IDs here."""

    nodes: list[PublicSae] = strawberry.field(description="The SAEs.")
    page_info: PageInfo = strawberry.field(description="Where the page stands in the list.")
    total_count: int = strawberry.field(description="SAEs in the whole list.")


@strawberry.type
class PublicSaeQueries:
    """Queries for public SAEs."""

    @field
    async def public_saes(
        self,
        info: Info,
        language_model_id: Annotated[
            strawberry.ID | None,
            argument("Only SAEs for that language model, told by its name, or its repository's or file's."),
        ] = strawberry.UNSET,
        search: Annotated[
            str | None,
            argument(
                "Words that have to stand in its release, name, repository, path, language model, places,"
                " format or architecture; up to 200 characters in all."
            ),
        ] = strawberry.UNSET,
        importable: Annotated[
            bool | None, argument("true: only those that can be imported; false: only those that cannot.")
        ] = strawberry.UNSET,
        first: First = 20,
        after: After = strawberry.UNSET,
    ) -> PublicSaePage:
        """SAEs that others have published on the Hugging Face Hub, by their releases' names."""
        found = await public_saes.find(
            info.context.server,
            unset_to_none(language_model_id),
            unset_to_none(search),
            unset_to_none(importable),
            first,
            unset_to_none(after),
        )

        nodes = [_shown(one) for one in found.page.items]
        return PublicSaePage(nodes=nodes, page_info=page_info(found.page), total_count=found.total)


def _shown(found: FoundPublicSae) -> PublicSae:
    sae = found.sae
    return PublicSae(
        release=sae.release,
        name=sae.id,
        repository=sae.repository,
        path=sae.path,
        language_model=sae.language_model,
        format=SaeSourceFormat(sae.format) if sae.format in FORMATS else None,
        architecture=sae.architecture,
        place=sae.reads,
        output_place=sae.writes,
        depth=sae.depth,
        latent_count=sae.width,
        l0=sae.l0,
        input_scale=sae.input_scale,
        layer=found.layer,
        refusal=sae.refusal,
    )
