"""Chat templates are code out of a language model's files: as transformers renders them, within bounds."""

import json
from pathlib import Path

import pytest

from gql_server.model_files.chat_templates import CHAT_FILE, MAX_WRITTEN, NotRendered, chats, keep_template
from gql_server.processes.reader_pool import Pool, ReadingEnded
from tests.support.tiny_tokenizers import tiny_tokenizer

WITHOUT_END = 3 * "{% for one in range(99999) %}" + 3 * "{% endfor %}"
DOUBLING = (
    "{% set text = namespace(it='x' * 999) %}"
    "{% for one in range(50) %}{% set text.it = text.it ~ text.it %}{% endfor %}"
)


def keep(directory: Path, template: str | None) -> None:
    content = {"template": template, "tokens": {"bos_token": "<s>"}}
    (directory / CHAT_FILE).write_text(json.dumps(content))


def test_a_prompt_is_written_as_transformers_writes_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    )
    keep_template(tmp_path, tokenizer)
    messages = [[{"role": "user", "content": prompt}] for prompt in ("a", "b {{ 1 }}")]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert chats(tmp_path, ["a", "b {{ 1 }}"]) == expected == ["<bos>[user] a", "<bos>[user] b {{ 1 }}"]


def test_of_several_templates_it_is_the_default_one(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.chat_template = {"tool_use": "tools", "default": "plain"}
    keep_template(tmp_path, tokenizer)
    assert chats(tmp_path, ["a"]) == ["plain"]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (None, "no chat template; use chat: false"),
        ("{{ raise_exception('only tools') }}", "only tools"),
        ("{% if %}", "cannot be used"),
        ("{{ nothing.of.the.kind }}", "undefined"),
        ("{{ 1 // 0 }}", "division"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "recursion"),
        ("{{ raise_exception('x' * 100000) }}", "x…x"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        (
            "{{ 'x' * " + str(MAX_WRITTEN + 2) + " }}",
            "writes 1,000,002 characters; the limit is 1,000,000 beside",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_told(tmp_path: Path, template: str | None, problem: str) -> None:
    keep(tmp_path, template)
    found = chats(tmp_path, ["a"])
    assert isinstance(found, NotRendered) and problem in found.problem and len(found.problem) < 1_000


def test_where_no_load_has_left_a_template_nothing_is_told(tmp_path: Path) -> None:
    assert chats(tmp_path, ["a"]) is None


@pytest.mark.parametrize(
    ("template", "ended"), [(WITHOUT_END, "more than 5 seconds"), (DOUBLING, "more than 512 MiB of memory")]
)
async def test_a_template_without_end_is_ended(tmp_path: Path, template: str, ended: str) -> None:
    bounds = {"processes": 1, "max_waiting": 1, "memory_bytes": 2**29}
    keep(tmp_path, "plain")
    await Pool("requests", seconds=60, **bounds).run(chats, tmp_path, ["a"])  # Imports take their time, too.
    keep(tmp_path, template)
    with pytest.raises(ReadingEnded, match=ended):
        await Pool("requests", seconds=5, **bounds).run(chats, tmp_path, ["a"])
