"""Public SAEs: looking for those of a language model, pages, and what is told of each."""

from typing import Any

import pytest

from gql_server.services.app_context import AppContext
from models.enums import LanguageModelSourceKind
from tests.api.asking import ask, execute, first_error
from tests.support.serving import add_language_model

QUERY = """query($id: ID, $search: String, $importable: Boolean, $first: Int! = 20, $after: String) {
  publicSaes(languageModelId: $id, search: $search, importable: $importable, first: $first, after: $after) {
    totalCount
    pageInfo { hasNextPage hasPreviousPage endCursor }
    nodes {
      release name repository path languageModel format architecture place outputPlace depth latentCount l0
      inputScale layer refusal
    }
  }
}"""


def layer(name: str, kind: str, depth: int | None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "depth": depth, "module_class": "Module", "width": 8}


async def found(server: AppContext, **variables: Any) -> dict[str, Any]:
    return dict((await ask(server, QUERY, **variables))["publicSaes"])


async def test_what_is_told_of_an_sae_is_what_its_names_tell(server: AppContext) -> None:
    page = await found(server, search="gemma-scope-9b-pt-res layer_20/width_16k/average_l0_138")
    assert page["nodes"] == [
        {
            "release": "gemma-scope-9b-pt-res",
            "name": "layer_20/width_16k/average_l0_138",
            "repository": "google/gemma-scope-9b-pt-res",
            "path": "layer_20/width_16k/average_l0_138",
            "languageModel": "google/gemma-2-9b",
            "format": "GEMMA_SCOPE",
            "architecture": "jumprelu",
            "place": "blocks.20.hook_resid_post",
            "outputPlace": None,
            "depth": 20,
            "latentCount": 16_384,
            "l0": 138,
            "inputScale": None,
            "layer": None,
            "refusal": None,
        }
    ]


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (LanguageModelSourceKind.HUGGING_FACE, "google/gemma-2-2b"),
        (LanguageModelSourceKind.DIRECTORY, "/models/Gemma-2-2B"),
        (LanguageModelSourceKind.GGUF, "/models/gemma-2-2b.gguf"),
    ],
)
async def test_those_of_a_language_model_come_with_the_layers_that_they_are_for(
    server: AppContext, kind: LanguageModelSourceKind, source: str
) -> None:
    norm = "model_layers_12_post_feedforward_layernorm"
    layers = [
        layer("model_layers_12", "BLOCK", 12),
        layer("model_layers_12_mlp", "MLP", 12),
        layer("model_layers_12_post_attention_layernorm", "NORM", 12),
        layer(norm, "NORM", 12),
        layer("model_layers_13", "BLOCK", 13),
    ]
    row = await add_language_model(server, "mine", source_kind=kind, source=source, layers=layers)
    residual = (await found(server, id=row.id, search="pt-res blocks.12.", first=1))["nodes"]
    behind_mlp = (await found(server, id=row.id, search="pt-mlp blocks.12.", first=1))["nodes"]
    elsewhere = (await found(server, id=row.id, search="pt-res blocks.14.", first=1))["nodes"]
    assert [one["layer"] for one in residual] == ["model_layers_12"]
    assert [one["layer"] for one in behind_mlp] == [norm]
    assert [one["layer"] for one in elsewhere] == [None]
    everything = await found(server, id=row.id)
    assert 0 < everything["totalCount"] < (await found(server))["totalCount"]
    assert {one["languageModel"] for one in everything["nodes"]} == {"google/gemma-2-2b"}


async def test_a_language_model_that_nobody_has_published_for_has_none(server: AppContext) -> None:
    row = await add_language_model(server, "mine", source="/models/2b")
    assert (await found(server, id=row.id))["totalCount"] == 0


async def test_pages_go_through_the_whole_list_once(server: AppContext) -> None:
    variables: dict[str, Any] = {"search": "Llama-Scope R1 slimpajama", "first": 40}
    names, after = [], None
    while True:
        page = await found(server, after=after, **variables)
        names += [(one["release"], one["name"]) for one in page["nodes"]]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert len(names) == len(set(names)) == page["totalCount"] == 96


async def test_what_can_be_imported_and_what_not_are_all_there_are(server: AppContext) -> None:
    can, cannot = [await found(server, importable=one, first=1) for one in (True, False)]
    assert can["totalCount"] + cannot["totalCount"] == (await found(server))["totalCount"]
    assert can["nodes"][0]["refusal"] is None
    assert cannot["nodes"][0]["refusal"].endswith(".")
    (temporal,) = (await found(server, search="temporal-sae-gemma"))["nodes"]
    assert temporal["format"] is None
    assert "temporal" in temporal["refusal"]


@pytest.mark.parametrize(
    ("variables", "path"),
    [({"first": 0}, "first"), ({"search": "x" * 201}, "search"), ({"after": "nothing"}, "after")],
)
async def test_what_cannot_be_asked_is_refused(
    server: AppContext, variables: dict[str, Any], path: str
) -> None:
    error = await first_error(server, QUERY, **variables)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert path in str(error)


async def test_a_language_model_that_is_none_is_not_found(server: AppContext) -> None:
    result = await execute(server, QUERY, id="lm_nothing")
    assert result.errors
    assert result.errors[0].formatted["extensions"]["code"] == "NOT_FOUND"
