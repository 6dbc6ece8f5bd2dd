"""What the pictures of the explorer are of, how large they may be, and that the docs show them all."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Match, Route

from benchmarks import screenshots
from gql_server.api.transport import explorer

ROOT = Path(__file__).parents[2]
PICTURES = sorted(screenshots.DIRECTORY.glob("*.png"))
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
MAX_BYTES_IN_ALL = 1_500_000


def sae(id: str, *, named: dict[int, str] | None = None, index: bool = True, job: str | None = "") -> Any:
    """Return an SAE as the API has it; named neurons with the moments of their names, the last one first."""
    nodes = [{"index": neuron, "concept": {"updatedAt": at}} for neuron, at in (named or {}).items()]
    return {
        "id": id,
        "status": "READY",
        "job": None if job is None else {"id": job or f"job_of_{id}"},
        "neuronIndex": {"status": "READY"} if index else None,
        "neurons": {"nodes": nodes},
    }


class FakeClient:
    """A server with some SAEs, of 100 neurons each, whose typical bias is their index."""

    def __init__(self, *saes: Any) -> None:
        self._saes = saes

    def ask(self, document: str, **variables: Any) -> Any:
        if "saes" in document:
            return {"saes": {"nodes": list(self._saes)}}
        index = variables["index"]
        return {"neuron": {"steeringRange": {"typical": float(index)}} if index < 100 else None}


def found(*saes: Any, options: tuple[str, ...] = ()) -> screenshots.Shown:
    return screenshots.find(FakeClient(*saes), screenshots.parser().parse_args(options))  # type: ignore[arg-type]


def test_the_pictures_are_of_the_neuron_that_was_named_last() -> None:
    shown = found(
        sae("sae_new"),
        sae("sae_named", named={7: "2026-02-02T00:00:00Z"}),
        sae("sae_named_before", named={8: "2026-01-01T00:00:00Z"}),
        sae("sae_without_index", index=False, job=None),
    )

    assert (shown.sae_id, shown.neuron, shown.bias) == ("sae_named", 7, 7.0)
    assert shown.job_id == "job_of_sae_named"
    assert shown.compared == ["sae_named", "sae_new", "sae_named_before"]


def test_the_pictures_are_of_what_is_given() -> None:
    shown = found(
        sae("sae_a", named={7: "2026-02-02T00:00:00Z"}),
        sae("sae_b"),
        options=("--sae", "sae_b", "--neuron", "12", "--bias", "0"),
    )

    assert (shown.sae_id, shown.neuron, shown.bias) == ("sae_b", 12, 0.0)


@pytest.mark.parametrize(
    ("saes", "options", "told"),
    [
        ([sae("sae_a", index=False)], (), "no SAE with an index"),
        ([sae("sae_a")], ("--sae", "sae_b"), "no SAE with an index"),
        ([sae("sae_a")], (), "No neuron has a name"),
        ([sae("sae_a")], ("--neuron", "100"), "no neuron 100"),
    ],
)
def test_where_there_is_nothing_to_show_it_says_what_is_missing(
    saes: list[Any], options: tuple[str, ...], told: str
) -> None:
    with pytest.raises(screenshots.NothingToShow, match=told):
        found(*saes, options=options)


def test_each_picture_is_of_a_page_of_the_explorer() -> None:
    app = Starlette(routes=[Route(path, lambda request: Response()) for path in explorer.ROUTES])

    for view in screenshots.views(found(sae("sae_a", named={7: "2026"}))):
        scope = {"type": "http", "method": "GET", "path": view.path.partition("?")[0]}
        assert any(route.matches(scope)[0] == Match.FULL for route in app.routes), view.path


def test_there_is_no_picture_of_a_training_of_an_imported_sae() -> None:
    names = [
        {view.name for view in screenshots.views(found(sae("sae_a", named={7: "2026"}, job=job)))}
        for job in ("job_1", None)
    ]
    assert names[0] - names[1] == {"job"}


def test_a_picture_gets_smaller_and_stays_the_same(tmp_path: Path) -> None:
    file = tmp_path / "page.png"
    image = Image.new("RGB", (400, 300), "#1a1e22")
    image.paste((131, 184, 236), (10, 10, 200, 100))
    image.save(file, compress_level=0)
    before = file.stat().st_size

    screenshots.shrink(file)

    assert file.stat().st_size < before / 3
    with Image.open(file) as small:
        assert small.convert("RGB").tobytes() == image.tobytes()


def test_a_picture_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.effect_noise((700, 700), 80).save(file)

    with pytest.raises(ValueError, match=r"noise\.png has \d\d\d,\d\d\d bytes; 200,000 are the most"):
        screenshots.shrink(file)


def test_pictures_are_small_enough_for_a_repository() -> None:
    sizes = {file.name: file.stat().st_size for file in PICTURES}

    assert {name: size for name, size in sizes.items() if size > screenshots.MAX_BYTES} == {}
    assert sum(sizes.values()) <= MAX_BYTES_IN_ALL


def test_each_picture_is_shown_in_both_schemes() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"(?:src|srcset)=\"([^\"]*)\"", page.read_text())
    }
    assert {path for path in shown if path.parent == screenshots.DIRECTORY} == set(PICTURES)
