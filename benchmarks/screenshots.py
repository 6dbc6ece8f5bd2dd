"""Pictures of the explorer for the README and docs/study.md, of an artifact directory as it is.

``python -m benchmarks.screenshots``, or ``make screenshots``: a server of its own on loopback, and headless
Chromium that opens each page in light and dark. The SAE and the neuron are the last ones that got a name,
unless they are given. Needs Node.js, Chromium and ``make explorer``; without them it says so.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from benchmarks.explorer_budgets import CHROMIUM, ROOT, missing
from benchmarks.served import Client, served
from gql_server.settings import Settings
from gql_server.tour import steering, steps
from gql_server.tour.client import TourError

DRIVER = Path(__file__).with_suffix(".mjs")
DIRECTORY = ROOT / "docs/pictures"
SCHEMES = ("light", "dark")
MAX_BYTES = 200_000
"""Of one picture: they are in the repository."""
COLORS = 256
TIMEOUT_SECONDS = 900
COMPARED = 3

TEXT = "She asked her brother for help. He inquired about the price, and the lawyer demanded an answer."
ASKED = "She asked me, “"
HERE = """{ saes(first: 50) { nodes { id status job { id } neuronIndex { status }
  neurons(first: 1, orderBy: CONCEPT_UPDATED_DESC, filter: { hasConcept: true }) {
    nodes { index concept { updatedAt } } } } } }"""
NEURON = """query ($sae: ID!, $index: Int!) { neuron(saeId: $sae, index: $index) {
  steeringRange { typical } } }"""


class NothingToShow(Exception):
    """The artifact directory has no SAE for pictures; the message says what is missing."""


@dataclass(frozen=True)
class Shown:
    """What the pictures are of."""

    sae_id: str
    job_id: str | None
    """The training; None where the SAE was imported."""
    compared: Sequence[str]
    """IDs of SAEs."""
    neuron: int
    bias: float
    prompt: str
    """To go on from, steered."""
    text: str
    """To test the neuron with."""
    asked: str
    """A prompt whose next token is explained."""


@dataclass(frozen=True)
class View:
    """A picture: the file's name without scheme and suffix, and how to get there."""

    name: str
    path: str
    until: str
    """Playwright's selector of what must be there."""
    height: int = 900
    click: str | None = None
    """Selector of what to click on then."""
    then: str | None = None
    """Selector of what must be there after that."""
    part: str | None = None
    """Selector of what the picture shows; the window without one."""


def views(of: Shown) -> Iterator[View]:
    """Give all pictures; none of a training where there was none."""
    sae = f"/saes/{of.sae_id}"
    edit = {"prompt": of.prompt, "edits": f"{of.neuron}:1:{of.bias:g}", "watch": of.neuron, "run": 1}
    play = f"{sae}/play?{urlencode(edit)}"
    yield View("home", "/", "main table tbody tr", height=760)
    strongest = f"{sae}?order=MAX_ACTIVATION_DESC"
    yield View("sae", strongest, "[role=listitem] a[href*='/neurons/']", height=1340)
    yield View("neuron", f"{sae}/neurons/{of.neuron}", "[role=tab]", height=1280)
    test = f"{sae}/neurons/{of.neuron}?{urlencode({'text': of.text})}"
    ran = "text=/of the highest in the index|does not fire/"
    yield View("test", test, ran, part=card("Test it with your own text"))
    both = "div:has(> section > * > h2:text-is('Generated text'))"
    yield View("play", play, "text=/^Done\\./", part=both)
    why = f"{sae}/play?{urlencode({'prompt': of.asked})}"
    rows = "table:has(caption:text-is('Neurons by their effect')) tbody tr"
    explain = "button:text-is('Explain')"
    yield View("why", why, explain, click=explain, then=rows, part=card("Why did the model say that?"))
    compare = urlencode([("sae", id) for id in of.compared])
    yield View("compare", f"/compare?{compare}", "main canvas", height=1000)
    if of.job_id:
        yield View("job", f"/jobs/{of.job_id}", "main canvas", height=900)


def card(title: str) -> str:
    """Return the selector of a card by its title."""
    return f"section:has(> * > h2:text-is('{title}'))"


def find(client: Client, given: argparse.Namespace) -> Shown:
    """Return what to show: what is given, else the neuron that was named last, and its SAE.

    Raises:
        NothingToShow: There is no SAE with an index, or no such one has a named neuron.
    """
    saes = [sae for sae in client.ask(HERE)["saes"]["nodes"] if sae["status"] == "READY"]
    indexed = [sae for sae in saes if sae["neuronIndex"] and given.sae in (None, sae["id"])]
    if not indexed:
        raise NothingToShow("There is no SAE with an index of its neurons: make demo makes one.")
    sae = max(indexed, key=named_at)
    neuron = given.neuron
    if neuron is None:
        if not named_at(sae):
            raise NothingToShow("No neuron has a name: name one, or choose one with --neuron.")
        neuron = sae["neurons"]["nodes"][0]["index"]
    found = client.ask(NEURON, sae=sae["id"], index=neuron)["neuron"]
    if found is None:
        raise NothingToShow(f"The SAE has no neuron {neuron}.")
    others = [other["id"] for other in saes if other["job"] and other["id"] != sae["id"]]
    return Shown(
        sae_id=sae["id"],
        job_id=sae["job"] and sae["job"]["id"],
        compared=[sae["id"], *others][:COMPARED],
        neuron=neuron,
        bias=found["steeringRange"]["typical"] if given.bias is None else given.bias,
        prompt=given.prompt,
        text=given.text,
        asked=given.asked,
    )


def named_at(sae: Mapping[str, Any]) -> str:
    """Return when a neuron of an SAE last got a name; empty for never."""
    return next((str(neuron["concept"]["updatedAt"]) for neuron in sae["neurons"]["nodes"]), "")


def take(url: str, pictures: Sequence[View], directory: Path) -> list[Path]:
    """Take pictures of a server's pages, in each scheme; return their files, as small as they get.

    Raises:
        subprocess.CalledProcessError: A page did not show what it should; the browser has said which.
        ValueError: A picture is too large for the repository.
    """
    directory.mkdir(parents=True, exist_ok=True)
    options = {
        "url": url,
        "executablePath": CHROMIUM,
        "views": [asdict(view) for view in pictures],
        "schemes": SCHEMES,
        "directory": str(directory),
    }
    command = ["node", str(DRIVER), json.dumps(options)]
    subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS)
    files = [directory / f"{view.name}-{scheme}.png" for view in pictures for scheme in SCHEMES]
    for file in files:
        shrink(file)
    return files


def shrink(file: Path) -> None:
    """Write a PNG anew with a palette, a third of its size; pages have few colors besides those of shades."""
    with Image.open(file) as image:
        small = image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{file.name} has {size:,} bytes; {MAX_BYTES:,} are the most: make it less high.")


def model_directories() -> str:
    """Return where language models may be: the demo's, if it is installed, and those of the environment."""
    try:
        demo = [steps.model_file().parent]
    except TourError:
        demo = []
    return os.pathsep.join(map(str, [*demo, *Settings().model_dirs]))


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = options.add_argument
    add(
        "--artifacts",
        type=Path,
        default=Settings().artifact_dir,
        help="artifact directory (default: %(default)s)",
    )
    add("--sae", help="ID of an SAE with indexed neurons (default: where a neuron got its name last)")
    add("--neuron", type=int, help="index of a neuron (default: the one that got its name last)")
    add("--bias", type=float, help="what steering adds to the neuron (default: its highest activation)")
    add("--prompt", default=steering.PROMPT, help="text that is gone on from, steered (default: %(default)s)")
    add("--text", default=TEXT, help="text that the neuron is tested with (default: %(default)s)")
    add("--asked", default=ASKED, help="text whose next token is explained (default: %(default)s)")
    add("--to", type=Path, default=DIRECTORY, help="where the pictures go (default: docs/pictures)")
    return options


def main() -> None:
    given = parser().parse_args()
    if needed := missing():
        sys.exit(f"No pictures: that needs {needed}.")
    if not Settings(artifact_dir=given.artifacts).database_path.is_file():
        sys.exit(f"No pictures: {given.artifacts} is no artifact directory; make demo makes one.")
    with served(given.artifacts, MODEL_DIRS=model_directories(), WARM_UP="false") as server:
        try:
            pictures = list(views(find(server.client, given)))
        except NothingToShow as nothing:
            sys.exit(f"No pictures: {nothing}")
        for file in take(f"http://127.0.0.1:{server.port}", pictures, given.to):
            print(f"{file.stat().st_size / 1000:6.0f} kB  {file}")


if __name__ == "__main__":
    main()
