"""How the tour prints what it found."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

TEXTS_PER_NEURON = 3
TOKENS_BEFORE_PEAK = 7
TOKENS_AFTER_PEAK = 6
NEURONS_TITLE = (
    "Some lively neurons: the share of tokens on which each fires, its maximum, and where it is high"
)
PROMPT_TOKENS = 15
HEAT = ("", "on grey23", "on dark_orange3", "black on orange1", "bold black on gold1")
"""Styles of a token by its activation's share of the text's highest."""


def metrics(console: Console, sae: Mapping[str, Any]) -> None:
    """Print the training's points."""
    table = Table(title="Training", title_justify="left", caption="What each number means: docs/metrics.md")
    for column in ("step", "tokens", "loss", "explained variance", "L0", "dead", "tokens/s"):
        table.add_column(column, justify="right")
    for point in sae["trainingHistory"]:
        table.add_row(
            f"{point['step']:,}",
            f"{point['tokenCount']:,}",
            _number(point["loss"], ".5f"),
            _number(point["explainedVariance"], ".3f"),
            _number(point["l0"], ".1f"),
            _number(point["deadFraction"], ".1%"),
            _number(point["tokensPerSecond"], ",.0f"),
        )
    console.print(table)


def evaluation(console: Console, found: Mapping[str, Any]) -> None:
    """Print what the SAE is worth in its layer's place."""
    console.print(
        f"On {found['tokenCount']:,} tokens of texts that it has not seen: explained variance "
        f"[bold]{_number(found['explainedVariance'], '.3f')}[/], {_number(found['l0'], '.1f')} active "
        f"neurons per token, {_number(found['deadFraction'], '.1%')} of the neurons silent.",
        highlight=False,
    )
    original, reconstructed, zeroed = (
        _number(found[name], ".3f") for name in ("ceLossOriginal", "ceLossReconstructed", "ceLossZeroAblated")
    )
    console.print(
        f"The model's loss is {original} nats per token, {reconstructed} with the reconstruction in the "
        f"layer's place, {zeroed} with nothing there: "
        f"[bold]{_number(found['ceLossRecovered'], '.1%')}[/] recovered.",
        highlight=False,
    )


def neurons(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Print neurons with the texts on which they fire most."""
    table = Table(title=NEURONS_TITLE, title_justify="left", show_lines=True, expand=True)
    # Fixed widths: a long text would squeeze the numbers to nothing.
    table.add_column("neuron", justify="right", width=6)
    table.add_column("tokens", justify="right", width=6)
    table.add_column("max", justify="right", width=6)
    table.add_column("makes likelier", width=14, overflow="ellipsis")
    table.add_column("texts on which it fires most", no_wrap=True, ratio=1)
    for neuron in found:
        texts = [highlighted(text["tokens"]) for text in neuron["topTexts"][:TEXTS_PER_NEURON]]
        table.add_row(
            str(neuron["index"]),
            f"{neuron['frequency']:.2%}",
            f"{neuron['maxActivation']:.1f}",
            promoted(neuron),
            Text("\n").join(texts),
        )
    console.print(table)


def promoted(neuron: Mapping[str, Any]) -> Text:
    """Return the tokens that a neuron raises most, a line each."""
    tokens = neuron["promotedTokens"] or ()
    lines = (Text(repr(found["token"]), no_wrap=True, overflow="ellipsis") for found in tokens)
    return Text("\n").join(list(lines)[:TEXTS_PER_NEURON])


def highlighted(tokens: Sequence[Mapping[str, Any]]) -> Text:
    """Return the tokens around the strongest one, each as bright as its activation."""
    activations = [float(token["activation"]) for token in tokens]
    peak = max(range(len(tokens)), key=activations.__getitem__, default=0)
    highest = max(activations, default=0.0)
    first = max(0, peak - TOKENS_BEFORE_PEAK)
    text = Text("…" if first else "", no_wrap=True, overflow="ellipsis")
    for token, activation in list(zip(tokens, activations, strict=True))[
        first : peak + TOKENS_AFTER_PEAK + 1
    ]:
        share = activation / highest if highest > 0 else 0
        text.append(" ".join(token["token"].splitlines()), style=HEAT[min(4, int(share * 5))])
    return text


def up_to_peak(tokens: Sequence[Mapping[str, Any]]) -> str:
    """Return a text's words up to the token on which the neuron fires most, that one included."""
    peak = max(range(len(tokens)), key=lambda index: tokens[index]["activation"], default=0)
    return "".join(token["token"] for token in tokens[max(0, peak - PROMPT_TOKENS) : peak + 1]).strip()


def top_neurons(console: Console, prompt: Mapping[str, Any]) -> None:
    """Print the neurons that fire most on a prompt, and where."""
    text = "".join(token["text"] for token in prompt["tokens"])
    console.print(f"What the SAE sees in “{text}”:", highlight=False, markup=False)
    table = Table()
    table.add_column("neuron", justify="right")
    table.add_column("activation", justify="right")
    table.add_column("strongest at")
    table.add_column("concept")
    for found in prompt["neurons"]:
        neuron = found["neuron"]
        place = found["tokenIndex"]
        table.add_row(
            str(neuron["index"]),
            f"{found['activation']:.1f}",
            "" if place is None else repr(prompt["tokens"][place]["text"]),
            escape(neuron["concept"]["name"]) if neuron["concept"] else "",
        )
    console.print(table)


def side_by_side(console: Console, prompt: str, baseline: str, steered: str) -> None:
    """Print the text as the model writes it beside the steered one."""
    table = Table(title=f"“{escape(prompt)} …”", title_justify="left", expand=True)
    table.add_column("as the model writes it", ratio=1)
    table.add_column("steered", ratio=1)
    table.add_row(Text(baseline.strip()), Text(steered.strip()))
    console.print(table)


def explorer(console: Console, sae: str, neuron_index: int) -> None:
    """Name the explorer's pages of an SAE, by its address, and of one of its neurons."""
    neuron = f"{sae}/neurons/{neuron_index}"
    console.print("The explorer, pages to look at all this:")
    for what, address in (("this SAE", sae), ("the neuron that we steered", neuron)):
        # Soft: an address that is broken into two lines cannot be clicked or copied.
        console.print(f"  {what}: [bold link={address}]{address}[/]", highlight=False, soft_wrap=True)


def what_next(console: Console, url: str, query: str, subscription: str) -> None:
    """Say what to open for queries, and what to paste there."""
    console.print(
        Panel(f"GraphiQL, to query all this: [bold link={url}/graphql]{url}/graphql[/]", expand=False)
    )
    console.print("A query to paste there:")
    console.print(Syntax(query.strip(), "graphql", background_color="default"))
    console.print("And a subscription, to watch the next job:")
    console.print(Syntax(subscription.strip(), "graphql", background_color="default"))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
