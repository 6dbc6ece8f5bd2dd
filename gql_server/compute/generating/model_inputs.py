"""What a language model's next forward pass takes, made as transformers' own ``generate`` makes it."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.generation.utils import ALL_CACHE_NAMES

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating import caches
from gql_server.compute.language_models.forward import model_device
from gql_server.compute.language_models.padding import pad

from mi_crow.language_model.language_model import LanguageModel

_CACHES = ("past_key_values", "cache_params")
_OWN_CACHES = DynamicCache.__module__
_OPTIONS = {"use_cache", "attention_mask", "position_ids", *_CACHES}
"""Those that can be put together with another batch's."""


class ModelInputs:
    """Some texts' token ids, padded left, with what the model keeps of them between forward passes.

    Each kind of model keeps that in its own way: keys and values, states of convolutions and recurrences,
    under one name or another. So the model's own methods arrange its inputs. A model whose output has nothing
    to go on from is given all token ids anew each time: GPT-1, which keeps nothing, and RecurrentGemma, which
    keeps it inside its modules, where other requests' passes would get at it.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Sequence[int]], all_logits: bool = False) -> None:
        """Begin with prompts; the logits of their last positions are enough unless ``all_logits``."""
        batch = pad(prompts, "left", model_device(lm))
        self.ids = batch.input_ids
        """[n_rows, n_positions]; of rows that stayed though they are done too, as ``rows`` says."""
        self.is_real = batch.attention_mask.bool()
        """Where ``ids`` are neither padding nor of a row that is done."""
        self.rows = torch.arange(len(prompts), device=self.ids.device)
        """Where the texts that go on are among the rows."""
        self._model: Any = lm.model
        self._is_first = True
        self.goes_on = False
        """Whether the model keeps what it has seen of the texts."""
        parameters = inspect.signature(self._model.forward).parameters
        self._logits = {"logits_to_keep": 0 if all_logits else 1} if "logits_to_keep" in parameters else {}
        self._options: dict[str, Any] = {"use_cache": True}
        self._takes_mask = "attention_mask" in parameters
        self._set_mask()
        if "position_ids" in parameters:
            # The model's own, as some need more than one position a token, and Reformer none.
            positions = self._model._prepare_position_ids_for_generation(
                self.ids, {"attention_mask": batch.attention_mask}
            )
            if positions is not None:
                self._options["position_ids"] = positions
        if self._model._supports_default_dynamic_cache():
            name = "cache_params" if "cache_params" in parameters else "past_key_values"
            self._options[name] = DynamicCache(config=self._model.config.get_text_config(decoder=True))

    def _set_mask(self, n_next: int = 0) -> None:
        """As generate does: a mask that leaves nothing out is none. ``n_next`` tokens are to come."""
        self._options.pop("attention_mask", None)
        if self._takes_mask and not self.is_real.all():
            self._options["attention_mask"] = nn.functional.pad(self.is_real.long(), (0, n_next), value=1)

    @property
    def all_go_on(self) -> bool:
        """Whether no row has stayed that is done."""
        return len(self.rows) == len(self.ids)

    def next(self) -> dict[str, Any]:
        """Return the arguments of the next forward pass."""
        inputs: dict[str, Any] = self._model.prepare_inputs_for_generation(
            self.ids,
            next_sequence_length=1 if self.goes_on else None,
            is_first_iteration=self._is_first,
            **self._options,
        )
        # Some models' methods write a number of their own there.
        return inputs | self._logits | {"return_dict": True}

    def took(self, output: Any) -> None:
        """Keep what the pass has put out for the next one."""
        self._is_first = False
        self.goes_on = any(name in output for name in ALL_CACHE_NAMES)
        self._options = self._model._update_model_kwargs_for_generation(output, self._options)
        if not self.goes_on:
            self._options = {name: value for name, value in self._options.items() if name not in _CACHES}
            self._options["use_cache"] = False

    def append(self, rows: Sequence[int], token_ids: Sequence[int]) -> None:
        """Go on with some of the texts that go on, each with its next token."""
        self._keep(rows)
        ids, is_real = self.ids[:, -1:].clone(), torch.zeros_like(self.is_real[:, -1:])
        ids[self.rows] = torch.tensor(token_ids, device=ids.device)[:, None]
        is_real[self.rows] = True
        self.ids = torch.cat([self.ids, ids], dim=1)
        self.is_real = torch.cat([self.is_real, is_real], dim=1)

    def _keep(self, rows: Sequence[int]) -> None:
        if len(rows) == len(self.rows):
            return
        self.rows = self.rows[torch.tensor(rows, device=self.rows.device)]
        if not self._can_leave():
            return
        for cache in self._caches():
            cache.reorder_cache(self.rows)  # type: ignore[arg-type]
        if (mask := self._options.get("attention_mask")) is not None:
            self._options["attention_mask"] = mask[self.rows]
        if (positions := self._options.get("position_ids")) is not None:
            self._options["position_ids"] = positions.index_select(-2, self.rows)
        self.ids, self.is_real = self.ids[self.rows], self.is_real[self.rows]
        self.rows = torch.arange(len(rows), device=self.rows.device)
        if self.can_join:
            self._trim()

    def _trim(self) -> None:
        """Leave out the first positions that are padding in every row."""
        n_positions = int(self.is_real.any(dim=0).int().argmax())
        if n_positions == 0:
            return
        for cache in self._caches():
            caches.cut(cache, n_positions)
        self.ids, self.is_real = self.ids[:, n_positions:], self.is_real[:, n_positions:]
        if (positions := self._options.get("position_ids")) is not None:
            self._options["position_ids"] = positions[..., n_positions:]
        self._set_mask(n_next=1)

    @property
    def can_join(self) -> bool:
        """Whether its texts, which the model has seen, can go on as one batch with others of the model."""
        found = self._caches()
        return (
            self._can_leave()
            and self.goes_on
            and self.all_go_on
            and all(name in _OPTIONS for name, value in self._options.items() if value is not None)
            and len(found) == 1
            and caches.can_be_joined(found[0])
        )

    def join(self, other: "ModelInputs") -> None:
        """Take in the texts of another batch, behind these; both ``can_join``, and ``append`` comes next."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        n_rows = len(self.ids) + len(other.ids)
        # The one step that may want for memory.
        for own, others in zip(self._caches(), other._caches(), strict=True):
            caches.join(own, others)
        both = (self, other)
        if "position_ids" in self._options:
            # Those of the next token are there already. What stands at padding is never looked at.
            positions = [_padded(one._options["position_ids"], width + 1) for one in both]
            self._options["position_ids"] = torch.cat(positions, dim=-2)
        self.ids = torch.cat([_padded(one.ids, width) for one in both])
        self.is_real = torch.cat([_padded(one.is_real, width) for one in both])
        self.rows = torch.arange(n_rows, device=self.ids.device)
        self._set_mask(n_next=1)

    def _can_leave(self) -> bool:
        """Say whether rows that are done can leave what the model keeps; else they stay, to no effect.

        Of transformers' own caches every part can be told which rows stay. A model's own kind may have parts
        that the method does not know of.
        """
        if not self.goes_on:
            return True
        caches = self._caches()
        parts = [part for cache in caches for part in (cache, *cache.layers)] if caches else []
        return bool(parts) and all(type(part).__module__ == _OWN_CACHES for part in parts)

    def _caches(self) -> list[DynamicCache]:
        found = [self._options.get(name) for name in _CACHES]
        return [cache for cache in found if isinstance(cache, DynamicCache)]


def _padded(positions: Tensor, width: int) -> Tensor:
    """Return a tensor [..., n_positions] with zeros before it, up to a width."""
    padded: Tensor = nn.functional.pad(positions, (width - positions.shape[-1], 0))
    return padded
