"""Baselines that have been generated, so that one need not be computed again for each change of the edits."""

from collections import OrderedDict
from dataclasses import dataclass
from weakref import ReferenceType, ref

import msgspec
from torch import nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.language_models.prompts import EncodedPrompt
from gql_server.protocol.events import OutputFinished
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.tasks import Generate

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

MAX_BYTES = 32 * 2**20
"""Limit on the kept baselines' messages; those used last stay."""


@dataclass(frozen=True)
class BaselineKey:
    """All that a prompt's baseline depends on, beside the weights of the language model and the SAE."""

    language_model: str
    prompt: str
    token_ids: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...]
    repetition_penalty: float | None
    sampling: tuple[float | int | None, ...]
    """Temperature, top_p, top_k, seed and the prompt's index; nothing of them where it is greedy."""
    top_log_probabilities: int
    reported: tuple[str, int, tuple[int, ...], Exclusions] | None
    """SAE, number of top neurons, watched neurons and excluded tokens; None without neurons."""

    @classmethod
    def of(cls, task: Generate, prompt_index: int, encoded: EncodedPrompt) -> "BaselineKey":
        """Return the key of one of a task's prompts."""
        is_greedy = task.temperature == 0
        reports = task.sae is not None and bool(task.top_neurons or task.watch_neurons)
        return cls(
            task.language_model.id,
            encoded.prompt,
            tuple(encoded.token_ids),
            task.max_new_tokens,
            tuple(task.stop),
            task.repetition_penalty,
            () if is_greedy else (task.temperature, task.top_p, task.top_k, task.seed, prompt_index),
            task.top_log_probabilities,
            (task.sae.id, task.top_neurons, tuple(task.watch_neurons), task.exclusions)
            if task.sae is not None and reports
            else None,
        )


@dataclass(frozen=True)
class _Kept:
    language_model: ReferenceType[nn.Module]
    sae: ReferenceType[Sae] | None
    message: bytes


class Baselines:
    """Keeps baselines for as long as the very language model and SAE that they were made with are loaded."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._kept: OrderedDict[BaselineKey, _Kept] = OrderedDict()

    def keep(self, lm: LanguageModel, sae: Sae | None, key: BaselineKey, output: OutputFinished) -> None:
        """Keep a baseline that has been made; those used longest ago make room for it."""
        self._forget(key)
        message = msgspec.msgpack.encode(output)
        if len(message) > self._max_bytes:
            return
        of_sae = ref(sae) if sae is not None and key.reported is not None else None
        self._kept[key] = _Kept(ref(lm.model), of_sae, message)
        self._n_bytes += len(message)
        while self._n_bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def get(self, lm: LanguageModel, sae: Sae | None, key: BaselineKey) -> OutputFinished | None:
        """Return a baseline, if it is kept."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.language_model() is not lm.model or (kept.sae is not None and kept.sae() is not sae):
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return msgspec.msgpack.decode(kept.message, type=OutputFinished)

    def _forget(self, key: BaselineKey) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._n_bytes -= len(kept.message)
