"""Whether a language model gives each text of a padded batch what it gives it alone."""

from collections.abc import Collection, Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.model_inputs import ModelInputs
from gql_server.compute.language_models.loading import position_limit, special_token_ids
from gql_server.compute.language_models.text_encoder import embedding_count

from mi_crow.language_model.language_model import LanguageModel

_LENGTHS = (3, 13)
"""Of the texts that are tried, in tokens; ten of padding are enough for a convolution to see them."""
_N_STEPS = 2
_BY_LENGTH = {"dynamic", "longrope"}
"""Rotary embeddings, as transformers names them, whose frequencies depend on the longest text."""

_go_together: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_can_join: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def go_together(lm: LanguageModel) -> bool:
    """Say whether texts may go through a model as one padded batch.

    Not every model leaves padding out: of some the mask is not asked for, others' convolutions or recurrences
    run over the padding. No list of names would stay right, so two short texts are tried, once for each
    loaded model.
    """
    if lm.model not in _go_together:
        _go_together[lm.model] = not _depends_on_the_longest(lm) and _try(lm)
    return _go_together[lm.model]


def can_join(lm: LanguageModel) -> bool:
    """Say whether texts that a model has begun with apart may go on as one padded batch; tried likewise."""
    if lm.model not in _can_join:
        _can_join[lm.model] = go_together(lm) and _try_joining(lm)
    return _can_join[lm.model]


def _depends_on_the_longest(lm: LanguageModel) -> bool:
    """Say whether a model's position embeddings are chosen by the longest text of a batch.

    Beyond a number of positions that the texts to try do not have, they are other ones for all texts.
    """
    config = lm.model.config.get_text_config(decoder=True)
    options = [getattr(config, name, None) for name in ("rope_parameters", "rope_scaling")]
    return any(_names(option, _BY_LENGTH) for option in options)


def _names(option: object, kinds: Collection[str]) -> bool:
    """Say whether one of the values in nested options is a kind of position embeddings."""
    if isinstance(option, Mapping):
        return any(_names(value, kinds) for value in option.values())
    return isinstance(option, str) and option in kinds


def _try(lm: LanguageModel) -> bool:
    texts, following = _texts(lm)
    with torch.inference_mode():
        together = _logits(lm, texts, following)
        alone = torch.cat([_logits(lm, [text], following) for text in texts], dim=1)
    return _are_close(lm, together, alone)


def _try_joining(lm: LanguageModel) -> bool:
    texts, following = _texts(lm)
    first, second = (ModelInputs(lm, [text]) for text in texts)
    with torch.inference_mode():
        alone = torch.cat([_logits(lm, [text], following) for text in texts], dim=1)
        _pass(lm, first)
        _pass(lm, second)
        if not (first.can_join and second.can_join):
            return False
        first.join(second)
        joined = []
        for token_id in following[:-1]:
            first.append(range(len(texts)), [token_id] * len(texts))
            joined.append(_pass(lm, first))
    return _are_close(lm, torch.stack(joined), alone[1:])


def _are_close(lm: LanguageModel, together: Tensor, alone: Tensor) -> bool:
    difference = (together - alone).square().mean(dim=-1).sqrt()
    # The square root of the precision: far above what another order of sums makes, far below a real one.
    allowed = torch.finfo(lm.model.dtype).eps ** 0.5 * alone.std(dim=-1)
    return bool((difference <= allowed).all())


def _texts(lm: LanguageModel) -> tuple[list[list[int]], list[int]]:
    """Return the texts to try, and the tokens that follow each of them."""
    limit = position_limit(lm) or max(_LENGTHS) + _N_STEPS
    texts = [_tokens(lm, max(1, min(length, limit - _N_STEPS))) for length in _LENGTHS]
    return texts, _tokens(lm, _N_STEPS)


def _tokens(lm: LanguageModel, n_tokens: int) -> list[int]:
    """Return some tokens of the vocabulary's middle that are not special."""
    special = special_token_ids(lm)
    plain = [token_id for token_id in range(embedding_count(lm) // 2) if token_id not in special] or [0]
    return [plain[(17 + 7 * number) % len(plain)] for number in range(n_tokens)]


def _logits(lm: LanguageModel, texts: Sequence[Sequence[int]], following: Sequence[int]) -> Tensor:
    """Return each step's logits, [n_steps, n_texts, vocabulary], with the same tokens after each text."""
    inputs = ModelInputs(lm, texts)
    steps = []
    for token_id in following:
        steps.append(_pass(lm, inputs))
        inputs.append(range(len(texts)), [token_id] * len(texts))
    return torch.stack(steps)


def _pass(lm: LanguageModel, inputs: ModelInputs) -> Tensor:
    """Return the logits after each text, [n_texts, vocabulary]."""
    output = lm.model(**inputs.next())
    inputs.took(output)
    logits: Tensor = output.logits[:, -1].float()
    return logits
