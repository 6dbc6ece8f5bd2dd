"""The plot of training throughput and memory over the number of latents."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

Points = Mapping[str, Sequence[tuple[int, float]]]
"""For each trainer, numbers of latents and what was measured with them."""


def draw(tokens_per_second: Points, megabytes: Points, path: Path) -> None:
    """Write a PNG of two diagrams with logarithmic axes."""
    mpl.use("agg")
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    drawn = ((left, tokens_per_second, "tokens per second"), (right, megabytes, "most memory held, MB"))
    for axes, points, label in drawn:
        for number, (name, measured) in enumerate(points.items()):
            style = "o-" if number < 2 else "s--"
            axes.plot(*zip(*measured, strict=True), style, label=name)
        axes.set(xscale="log", yscale="log", xlabel="latents", ylabel=label)
        ticks = sorted({n_latents for measured in points.values() for n_latents, _ in measured})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.grid(True, which="both", alpha=0.3)
    left.legend()
    figure.savefig(path, dpi=110)
