"""Tokenizers of which there is a SentencePiece model alone, as SentencePiece itself would split text."""

from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import Regex, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from gql_server.compute.language_models.load_failures import NotLoadable

_TEXTS = ("the quick brown fox jumps over the lazy dog", "  two spaces first")
"""Plain ones: some classes take accents away or write numbers in another way, which is theirs to do."""
_UNIGRAM, _BPE = 1, 2
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
    # A slow one asks SentencePiece itself.
    if tokenizer is not None and (not tokenizer.is_fast or _agree(tokenizer, processor)):
        return tokenizer
    proto = import_protobuf().ModelProto.FromString(path.read_bytes())
    if proto.trainer_spec.model_type not in (_UNIGRAM, _BPE) or not _has_its_ids(tokenizer, processor):
        raise _disagreement(path)
    built = _build(proto)
    if tokenizer is None:
        tokenizer = _with_special_tokens(built, proto)
    else:
        backend = tokenizer.backend_tokenizer
        backend.model, backend.normalizer, backend.decoder = built.model, built.normalizer, built.decoder
        backend.pre_tokenizer = None
    if not _agree(tokenizer, processor):
        raise _disagreement(path)
    return tokenizer


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


def _agree(tokenizer: Any, processor: Any) -> bool:
    for text in _TEXTS:
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


def _build(proto: Any) -> Tokenizer:
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    scores = [(piece.piece, piece.score) for piece in proto.pieces]
    if trainer.model_type == _UNIGRAM:
        tokenizer = Tokenizer(models.Unigram(scores, trainer.unk_id, trainer.byte_fallback))
    else:
        vocabulary = {piece: index for index, (piece, _) in enumerate(scores)}
        merges = generate_merges(vocabulary, scores)
        unknown = proto.pieces[trainer.unk_id].piece
        tokenizer = Tokenizer(
            models.BPE(
                vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=trainer.byte_fallback
            )
        )
    steps: list[Any] = []
    if normalizer.precompiled_charsmap:
        steps.append(normalizers.Precompiled(normalizer.precompiled_charsmap))
    if normalizer.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
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
