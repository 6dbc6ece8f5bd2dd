"""Tokenizers of which there is a SentencePiece model alone, as SentencePiece itself would split text."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from gql_server.compute.language_models.load_failures import NotLoadable

_TEXTS = (
    "the quick brown fox jumps over the lazy dog",
    "  two spaces first",
    "a line\n\nand\ta tab",
    "a character of private use: \uf123",
)
"""Plain ones: some classes take accents away or write numbers in another way, which is theirs to do."""
_MOST_DEFINED = 200
"""How many user-defined pieces are looked at between others."""
_UNIGRAM, _BPE = 1, 2
_NORMAL, _USER_DEFINED = 1, 4
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def sentencepiece_file(directory: Path) -> Path | None:
    """Return the SentencePiece model that a directory has in the place of a tokenizer.json, if so."""
    if (directory / "tokenizer.json").exists():
        return None
    return next((path for path in sorted(directory.glob("*.model")) if _is_sentencepiece(path)), None)


def as_sentencepiece(tokenizer: Any | None, path: Path) -> Any:
    """Return a tokenizer that agrees with a SentencePiece model: the given one, or one made right.

    Trap: transformers takes pieces and merges out of the file, and for most classes not the space before a
    text, the normalization or the kind of model; the tokens are silently others. ``tokenizer`` is what it
    made, or None where it made none. Raises NotLoadable where the two cannot be brought together.
    """
    processor = SentencePieceProcessor(model_file=str(path))
    proto = _read(path)
    defined = _defined(proto)
    texts = [
        *_TEXTS,
        *(f"a{piece.replace(_SPACE, ' ')}b" for piece in list(defined.values())[:_MOST_DEFINED]),
    ]
    # A slow one asks SentencePiece itself.
    if tokenizer is not None and (not tokenizer.is_fast or _agree(tokenizer, processor, texts)):
        return tokenizer
    if proto.trainer_spec.model_type not in (_UNIGRAM, _BPE) or not _has_its_ids(tokenizer, processor):
        raise _disagreement(path)
    built = _build(proto)
    if tokenizer is None:
        tokenizer = _with_special_tokens(built, proto)
    else:
        _put_in(tokenizer, built, set(defined.values()))
    if not _agree(tokenizer, processor, texts):
        raise _disagreement(path)
    return tokenizer


def user_defined_pieces(directory: Path) -> dict[int, str]:
    """Return the pieces, by ID, that a directory's only tokenizer, a SentencePiece model, never splits."""
    path = sentencepiece_file(directory)
    return _defined(_read(path)) if path else {}


def _read(path: Path) -> Any:
    return import_protobuf().ModelProto.FromString(path.read_bytes())


def _defined(proto: Any) -> dict[int, str]:
    return {index: piece.piece for index, piece in enumerate(proto.pieces) if piece.type == _USER_DEFINED}


def _is_sentencepiece(path: Path) -> bool:
    try:
        SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        return False
    return True


def _disagreement(path: Path) -> NotLoadable:
    return NotLoadable(
        f"Its {path.name} cannot be read as its tokenizer's class needs it: save the tokenizer as "
        "tokenizer.json (save_pretrained of transformers)."
    )


def _agree(tokenizer: Any, processor: Any, texts: Sequence[str]) -> bool:
    for text in texts:
        ids = processor.encode(text)
        expected = [None if processor.is_unknown(piece) else processor.id_to_piece(piece) for piece in ids]
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
        if [None if token == tokenizer.unk_token else token for token in tokens] != expected:
            return False
    return True


def _has_its_ids(tokenizer: Any | None, processor: Any) -> bool:
    """Say whether a class numbers pieces as the file does: some put their own tokens before them."""
    if tokenizer is None:
        return True
    vocabulary = tokenizer.get_vocab()
    return all(
        vocabulary.get(processor.id_to_piece(piece)) == piece
        for piece in range(processor.get_piece_size())
        if not (processor.is_control(piece) or processor.is_unknown(piece))
    )


def _put_in(tokenizer: Any, built: Tokenizer, defined: set[str]) -> None:
    """Have a tokenizer of transformers split text as another does, and keep its special tokens."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = json.loads(built.to_str())
    backend |= {name: parts[name] for name in ("model", "normalizer", "pre_tokenizer", "decoder")}
    # Between added tokens each stretch of a text would begin like a text, with a space.
    backend["added_tokens"] = [token for token in backend["added_tokens"] if token["content"] not in defined]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))


def _scores(proto: Any) -> list[tuple[str, float]]:
    """Return each piece's log probability; user-defined ones have none, and what SentencePiece gives them.

    That is 0.1 less than its most probable piece once for each byte, from which nothing else can be made up.
    """
    best = max((piece.score for piece in proto.pieces if piece.type == _NORMAL), default=0.0)
    return [
        (piece.piece, len(piece.piece.encode()) * best - 0.1 if piece.type == _USER_DEFINED else piece.score)
        for piece in proto.pieces
    ]


def _build(proto: Any) -> Tokenizer:
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    scores, defined = _scores(proto), list(_defined(proto).values())
    if trainer.model_type == _UNIGRAM:
        tokenizer = Tokenizer(models.Unigram(scores, trainer.unk_id, trainer.byte_fallback))
    else:
        vocabulary = {piece: index for index, (piece, _) in enumerate(scores)}
        merges = generate_merges(vocabulary, scores, skip_tokens=defined)
        unknown = proto.pieces[trainer.unk_id].piece
        tokenizer = Tokenizer(
            models.BPE(
                vocabulary,
                merges,
                unk_token=unknown,
                fuse_unk=True,
                byte_fallback=trainer.byte_fallback,
                ignore_merges=bool(defined),
            )
        )
        if defined:
            longest_first = "|".join(re.escape(piece) for piece in sorted(defined, key=len, reverse=True))
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(longest_first), "isolated")
    steps: list[Any] = []
    if normalizer.precompiled_charsmap:
        steps.append(normalizers.Precompiled(normalizer.precompiled_charsmap))
    if normalizer.remove_extra_whitespaces:
        # Of all that is white, spaces alone.
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if normalizer.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])
    backwards: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if normalizer.add_dummy_prefix:
        backwards.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(backwards)
    return tokenizer


def _with_special_tokens(tokenizer: Tokenizer, proto: Any) -> PreTrainedTokenizerFast:
    ids = {
        f"{word}_token": getattr(proto.trainer_spec, f"{word}_id") for word in ("unk", "bos", "eos", "pad")
    }
    special = {name: proto.pieces[index].piece for name, index in ids.items() if index >= 0}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
