"""Which tokens are control tokens, by the marks that a tokenizer's files carry.

A token that is no content does not count: it is neither trained on nor measured, ranked or steered. Hardly
any tokenizer marks all of them in one place, and some mark ordinary words like control tokens; docs/tokens.md
says which marks are taken, and people may decide otherwise for single tokens.
"""

import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from tokenizers import AddedToken

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.language_models.gguf_tokens import control_ids_of
from gql_server.compute.language_models.text_encoder import TextEncoder, own_edges, set_encoder
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import LanguageModelSource
from gql_server.tokens.options import Reason, SpecialToken, TokenizerFacts

from mi_crow.language_model.language_model import LanguageModel

_BRACKETED = re.compile(r"[<\[{(]\S+[>\]})]")
"""A chat template also says words, line ends and spaces; only what is written so is a marker in it."""
_CONTROL_FORM = re.compile(r"<[|\uFF5C]\S+[|\uFF5C]>|</?[A-Za-z]+(_[A-Za-z]+)+>")
"""<|user|>, also with DeepSeek's wide bars, and <start_of_turn>, but neither <b> nor <gene_7>."""
_SENTENCE_PIECE_FILES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
_FACTS = "tokenizer_facts"
"""The attribute of a loaded model that holds them."""
Marks = dict[int, Reason]


def set_up_tokens(lm: LanguageModel, source: LanguageModelSource, place: str) -> None:
    """Have a loaded model treat its tokens as its files and its options say.

    Raises TaskError CONFLICT where a BOS is asked for and the tokenizer has none.
    """
    facts = tokenizer_facts(lm.model, lm.tokenizer, Path(place))
    if source.add_bos and not facts.can_begin:
        reason = "The language model's addBos is true, but its tokenizer has no BOS token: set it to null."
        raise TaskError(reason, "CONFLICT")
    lm.context.special_token_ids = facts.special_ids(dict(source.token_counts))
    set_encoder(lm, TextEncoder(lm.tokenizer, facts.edges(source.add_bos), source.add_bos))
    setattr(lm, _FACTS, facts)


def facts_of_model(lm: LanguageModel) -> TokenizerFacts | None:
    """Return what the load of a model found out about its tokenizer."""
    return getattr(lm, _FACTS, None)


def tokenizer_facts(model: Any, tokenizer: Any, place: Path) -> TokenizerFacts:
    """Return what a tokenizer's files in a directory say of its tokens and of what stands around a text."""
    own = own_edges(tokenizer)
    marks: Marks = {}
    for reason, token_ids in _marks(model, tokenizer, place):
        for token_id in token_ids:
            # It stands for content that the vocabulary lacks, and is always added as a special token.
            if token_id != tokenizer.unk_token_id or reason not in ("ADDED", "VOCABULARY"):
                marks.setdefault(token_id, reason)
    special = [
        SpecialToken(token_id, str(tokenizer.convert_ids_to_tokens(token_id)), reason, reason == "UNKNOWN")
        for token_id, reason in sorted(marks.items())
    ]
    return TokenizerFacts(special, list(own.begin), list(own.end), _bos_id(model, tokenizer, marks))


def _marks(model: Any, tokenizer: Any, place: Path) -> Iterator[tuple[Reason, Iterable[int]]]:
    """Give the ids that each kind of mark is on, the plainest mark first."""
    added = {token_id: token.content.strip() for token_id, token in tokenizer.added_tokens_decoder.items()}
    added |= _defined_pieces(tokenizer, place)
    templates = "\n".join(_templates(tokenizer))
    yield "NAMED", _named(tokenizer)
    yield "ADDED", [found for found, token in tokenizer.added_tokens_decoder.items() if token.special]
    yield "VOCABULARY", control_ids_of(place)
    yield "VOCABULARY", _control_pieces(tokenizer, place)
    yield "END_OF_TEXT", [token_id for token_id in _end_ids(model) if token_id in added]
    in_brackets = [token_id for token_id, text in added.items() if _BRACKETED.fullmatch(text)]
    yield "CHAT_TEMPLATE", [token_id for token_id in in_brackets if added[token_id] in templates]
    yield "FORM", [token_id for token_id, text in added.items() if _CONTROL_FORM.fullmatch(text)]
    if tokenizer.unk_token_id is not None:
        yield "UNKNOWN", [tokenizer.unk_token_id]


def _named(tokenizer: Any) -> Iterator[int]:
    """Give the ids of the tokens that the tokenizer has a name for, that for unknown ones aside.

    Tokenizers without a padding token often name the unknown one in its place. transformers names the pieces
    that a SentencePiece model never splits as well, and says itself that they are not special.
    """
    names = {name: text for name, text in tokenizer.special_tokens_map.items() if name != "unk_token"}
    if names.get("pad_token") == tokenizer.unk_token:
        names.pop("pad_token", None)
    wanted = {text for text in names.values() if isinstance(text, str)}
    given = tokenizer.init_kwargs.get("extra_special_tokens") or ()
    unmarked = {str(token) for token in given if isinstance(token, AddedToken) and not token.special}
    extra = set(tokenizer.all_special_tokens) - {str(tokenizer.unk_token)} - unmarked
    for text in sorted(wanted | extra):
        token_id = tokenizer.convert_tokens_to_ids(text)
        if token_id is not None:
            yield token_id


def _end_ids(model: Any) -> list[int]:
    """Return the ids that end a generated text, as the model's files say."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return [token_id for token_id in ids if token_id is not None]


def _templates(tokenizer: Any) -> list[str]:
    """Return what the tokenizer's chat templates write; some have several, by name."""
    templates = getattr(tokenizer, "chat_template", None)
    found = templates.values() if isinstance(templates, dict) else [templates]
    return [text for template in found if isinstance(template, str) for text in _written(template)]


def _written(template: str) -> list[str]:
    """Return the texts of a Jinja template, and the strings in its code, without the code and remarks."""
    try:
        return [text for _, kind, text in Environment().lex(template) if kind in ("data", "string")]
    except TemplateSyntaxError:
        return [template]


def _control_pieces(tokenizer: Any, place: Path) -> list[int]:
    """Return the ids of a SentencePiece model's control pieces, which its conversions may not mark."""
    if importlib.util.find_spec("sentencepiece") is None:
        return []
    from sentencepiece import SentencePieceProcessor

    for path in (place / name for name in _SENTENCE_PIECE_FILES):
        if not path.is_file():
            continue
        pieces = SentencePieceProcessor()
        try:
            pieces.Load(str(path))
        except (OSError, RuntimeError):
            continue  # tiktoken's files have such names too.
        names = [pieces.IdToPiece(place) for place in range(len(pieces)) if pieces.IsControl(place)]
        ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
        return [found for name, found in ids if found is not None and _is_named(tokenizer, found, name)]
    return []


def _defined_pieces(tokenizer: Any, place: Path) -> dict[int, str]:
    """Return by ID what is to a SentencePiece model, where there is nothing else, as added tokens are."""
    if importlib.util.find_spec("sentencepiece") is None or not place.is_dir():
        return {}
    from gql_server.compute.language_models.sentencepiece_tokenizers import user_defined_pieces

    pieces = user_defined_pieces(place).items()
    return {token_id: piece for token_id, piece in pieces if _is_named(tokenizer, token_id, piece)}


def _is_named(tokenizer: Any, token_id: int, name: str) -> bool:
    """Whether an id really is that token's, and not the unknown one's."""
    return bool(tokenizer.convert_ids_to_tokens(token_id) == name)


def _bos_id(model: Any, tokenizer: Any, marks: Marks) -> int | None:
    """Return the BOS: the tokenizer's, or that of the model's configuration where it is a control token.

    None where the embedding has no row for it. Configurations have a number there by default, whatever the
    tokenizer.
    """
    n_rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.bos_token_id is not None:
        return int(tokenizer.bos_token_id) if tokenizer.bos_token_id < n_rows else None
    configured = getattr(model.config.get_text_config(), "bos_token_id", None)
    return configured if isinstance(configured, int) and configured in marks else None
