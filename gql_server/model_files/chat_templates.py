"""A language model's chat template, as a load has left it beside the copy of the tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gql_server.artifacts.files import write_changed
from gql_server.errors import MAX_PROBLEM, shortened

CHAT_FILE = "chat_template.json"
MAX_WRITTEN = 1_000_000
"""Characters that a template may write beside a request's prompts."""
_MISTAKES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_NO_TEMPLATE = "The language model's tokenizer has no chat template; use chat: false."


class NotRendered(NamedTuple):
    """Why there are no chats: a sentence."""

    problem: str


def keep_template(directory: Path, tokenizer: Any) -> None:
    """Write a tokenizer's chat template, and the tokens that it may name, unless they are there.

    Args:
        directory: The language model's copy.
        tokenizer: A tokenizer of transformers.
    """
    try:
        template = tokenizer.get_chat_template()
    except (ValueError, AttributeError):
        template = None  # It has none, or several and none of them is the one to take.
    tokens = dict(tokenizer.special_tokens_map)
    content = json.dumps({"template": template, "tokens": tokens}, default=str).encode()
    write_changed(directory / CHAT_FILE, content)


def chats(directory: Path, prompts: Sequence[str]) -> list[str] | NotRendered | None:
    """Return each prompt as a chat in which the model is to answer it; None where no load has left a file.

    As ``apply_chat_template`` of transformers renders it. A template is code, which may not come to an end or
    take all memory: call it in a process with bounds.
    """
    try:
        kept = json.loads((directory / CHAT_FILE).read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(kept["template"], str):
        return NotRendered(_NO_TEMPLATE)
    from jinja2 import TemplateError
    from transformers.utils import chat_template_utils

    try:
        render: Any = chat_template_utils.render_jinja_template
        rendered, _ = render(
            [[{"role": "user", "content": prompt}] for prompt in prompts],
            chat_template=kept["template"],
            add_generation_prompt=True,
            **kept["tokens"],
        )
    except (TemplateError, *_MISTAKES) as error:
        said = shortened(str(error), MAX_PROBLEM)
        return NotRendered(f"The language model's chat template cannot be used: {said}")
    written = sum(map(len, rendered))
    if written > MAX_WRITTEN + sum(map(len, prompts)):
        return NotRendered(
            f"The language model's chat template writes {written:,} characters; the limit is {MAX_WRITTEN:,} "
            "beside the prompts."
        )
    return list(rendered)
