"""Texts that an index names for a neuron, with its activations."""

import math
from typing import TYPE_CHECKING

import strawberry

from gql_server.api.common import field, object_type
from gql_server.api.whole_lists import Whole

if TYPE_CHECKING:
    from gql_server.artifacts.neuron_texts import StoredExampleGroup
    from gql_server.artifacts.top_texts import StoredTopText


@object_type
class TokenActivation:
    """A token, and how strongly a neuron fires on it."""

    token: str = strawberry.field(description="The token's text.")
    activation: float = strawberry.field(description="0 where the neuron does not fire.")


@object_type
class TopText:
    """A stretch of text around a token on which a neuron fires: most strongly, if it is a top text."""

    text: str = strawberry.field(description="The stretch.")
    score: float = strawberry.field(
        description=(
            "The activation on the token that it is around: the highest in it of a top text, of an example"
            " that of the token that was drawn, 0 of a silent text."
        )
    )
    token_index: int = strawberry.field(
        description=(
            "Where that is in the whole text as it was captured, or in the piece of it, counted in tokens"
            " from 0; the stretch may begin later: peakIndex counts in it."
        )
    )
    peak_index: int = strawberry.field(description="Where that is in tokens, counted from 0.")
    text_before: str = strawberry.field(
        description=(
            "What stands before the stretch in the text, or the piece of it, as far as contextTokens of"
            " topTexts goes beyond 16: no activations are kept there. Empty elsewhere."
        )
    )
    text_after: str = strawberry.field(description="What stands behind the stretch, likewise.")
    text_count: int | None = strawberry.field(
        description=(
            "In how many texts of the run, or pieces of texts, this very stretch stands; it is shown once."
            " Null where an earlier version made the index, which may show it several times."
        )
    )
    text_index: int = strawberry.field(description="The text's place in the run's dataset, from 0.")
    piece_index: int = strawberry.field(
        description="Which piece of the text it is in, from 0; always 0 where long texts are not split."
    )
    token: str = strawberry.field(description="The token that it is on.")
    token_texts: list[str] = strawberry.field(
        description=(
            "The tokens' texts alone; with activations it says the same as tokens in a third of the bytes."
        )
    )
    activations: list[float] = strawberry.field(
        description="The activations alone, one for each of tokenTexts."
    )

    @field
    def tokens(self) -> list[TokenActivation]:
        """Every token of the stretch with the neuron's activation on it."""
        return [
            TokenActivation(token=token, activation=activation)
            for token, activation in zip(self.token_texts, self.activations, strict=True)
        ]


@object_type
class ExampleGroup:
    """Texts from a range of a neuron's activations."""

    from_: float = strawberry.field(name="from", description="The activations are at least this.")
    to: float = strawberry.field(
        description="And below this; in the last group, this is the neuron's highest activation."
    )
    share: float = strawberry.field(
        description=(
            "Share of its firings, over all tokens of the index, that are in this range. Counted, not"
            " sampled."
        )
    )
    texts: list[TopText] = strawberry.field(
        description=(
            "Around tokens that were drawn from these firings, each as likely as another; strongest first."
            " The same every time, and the same in an index made again."
        )
    )


def top_text(found: "StoredTopText") -> TopText:
    """Return a text as it is shown."""
    activations = [activation for _, activation in found.tokens]
    return TopText(
        text=found.text,
        score=found.score,
        token_index=found.token_index,
        peak_index=found.peak_index,
        text_before=found.text_before,
        text_after=found.text_after,
        text_count=found.text_count,
        text_index=found.row,
        piece_index=found.piece,
        token=found.token,
        token_texts=Whole(token for token, _ in found.tokens),
        # Indexes of old versions may have others, which fail one by one.
        activations=Whole(activations) if all(map(math.isfinite, activations)) else activations,
    )


def top_texts(found: "list[StoredTopText] | None") -> list[TopText] | None:
    """Return texts as they are shown; None where a score is not finite, as in some old indexes."""
    if found is None or not all(math.isfinite(text.score) for text in found):
        return None
    return [top_text(text) for text in found]


def example_group(found: "StoredExampleGroup") -> ExampleGroup:
    """Return a group as it is shown."""
    texts = [top_text(text) for text in found.texts]
    return ExampleGroup(from_=found.begin, to=found.end, share=found.share, texts=texts)
