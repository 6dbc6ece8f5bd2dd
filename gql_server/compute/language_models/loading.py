"""The language models that a worker has loaded."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.devices import devices
from gql_server.compute.language_models.layers import depth_order, describe_layers
from gql_server.compute.language_models.load_failures import sentences_of
from gql_server.compute.language_models.model_files import (
    DTYPES,
    place_to_load,
    state_inside,
    without_places,
    write_tokenizer,
)
from gql_server.compute.language_models.module_inputs import add_inputs
from gql_server.compute.language_models.position_limits import position_limit
from gql_server.compute.language_models.read_files import ReadFiles
from gql_server.compute.language_models.special_tokens import facts_of_model, set_up_tokens
from gql_server.compute.language_models.tokenizer_loading import load_tokenizer, notes_of_tokenizer
from gql_server.compute.language_models.weights import load_weights
from gql_server.compute.worker.context import TaskError
from gql_server.model_files.files import identify, name_of, stamp_of
from gql_server.protocol.results import LanguageModelDescription
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.wire import LanguageModelChanged, LanguageModelFound

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.local_store import LocalStore

__all__ = ["LanguageModels", "OnChange", "depth_order", "describe", "position_limit", "special_token_ids"]

OnChange = Callable[[LanguageModelChanged], None]
OnFound = Callable[[LanguageModelFound], None]
_LOADS = 3
"""Attempts at loading files that keep changing meanwhile."""


@dataclass
class _Loaded:
    source: LanguageModelSource
    files: ReadFiles
    lm: LanguageModel
    notes: list[str]
    """What people should know of how it was loaded."""
    description: LanguageModelDescription
    last_used: float = 0.0


class LanguageModels:
    """Loads language models when they are first asked for, and keeps them until told to let go.

    ``on_change`` is told of each load, failure and unload, ``on_found`` of what a load has found a model to
    be. Models are put on ``device``, or the best one here.
    """

    def __init__(
        self, on_change: OnChange | None = None, device: str | None = None, on_found: OnFound | None = None
    ) -> None:
        self._on_change = on_change or (lambda change: None)
        self._on_found = on_found or (lambda found: None)
        self._device = device or devices()[0]
        self._loaded: dict[str, _Loaded] = {}

    def get(self, source: LanguageModelSource) -> LanguageModel:
        """Return a model in evaluation mode, loaded if need be, and anew where its files have changed.

        Raises TaskError CONFLICT with a sentence where it cannot be loaded.
        """
        return self.get_identified(source)[0]

    def get_identified(self, source: LanguageModelSource) -> tuple[LanguageModel, LanguageModelProvenance]:
        """Return a model as ``get`` does, and by its hashes what it is."""
        loaded = self._loaded.get(source.id)
        if loaded is None or loaded.source != source or self._has_changed(loaded):
            # Let go of before: there may be no room for two.
            self._loaded.pop(source.id, None)
            del loaded
            loaded = self._loaded[source.id] = self._load(source)
        loaded.last_used = time.monotonic()
        return loaded.lm, loaded.files.origin

    def describe(self, source: LanguageModelSource) -> LanguageModelDescription:
        """Say what a model is, loaded if need be."""
        self.get(source)
        return self._loaded[source.id].description

    def is_loaded(self, source: LanguageModelSource) -> bool:
        """Whether a model is there already as it is asked for."""
        loaded = self._loaded.get(source.id)
        return loaded is not None and loaded.source == source

    def identify(
        self, source: LanguageModelSource, check: Callable[[], None]
    ) -> LanguageModelProvenance | None:
        """Say what a model is that a task is going to need, without loading it; None where it has gone."""
        loaded = self._loaded.get(source.id)
        if loaded is not None and loaded.source == source and loaded.files.look_the_same():
            return loaded.files.origin
        return identify(source, check)

    def check_not_overwritten(self, source: LanguageModelSource) -> None:
        """Raise TaskError CONFLICT where a loaded model's files have been written to in place since."""
        loaded = self._loaded.get(source.id)
        if loaded is not None and loaded.files.were_overwritten():
            raise TaskError(
                f"The files of the language model {name_of(source)} were overwritten while it computed: do it"
                " again.",
                "CONFLICT",
            )

    def _has_changed(self, loaded: _Loaded) -> bool:
        """Whether a model's files are others by now; read only where they look it."""
        if loaded.files.look_the_same():
            return False
        self._tell(loaded.source.id, "LOADING")
        if not loaded.files.are_the_same():
            return True
        self._tell(loaded.source.id, "LOADED")
        return False

    def notes(self, source: LanguageModelSource) -> list[str]:
        """Return sentences about how a model was loaded, such as weights that it has no place for."""
        self.get(source)
        return self._loaded[source.id].notes

    def unload(self, language_model_id: str) -> None:
        """Let go of a model, if it is loaded; a task that holds it goes on with it."""
        if self._loaded.pop(language_model_id, None) is not None:
            self._tell(language_model_id, "UNLOADED")

    def unload_idle(self, seconds: float) -> None:
        """Let go of the models that nothing has asked for in so long; not to be called while a task runs."""
        now = time.monotonic()
        for language_model_id, loaded in list(self._loaded.items()):
            if now - loaded.last_used >= seconds:
                self.unload(language_model_id)

    def _load(self, source: LanguageModelSource) -> _Loaded:
        self._tell(source.id, "LOADING")
        try:
            loaded = _load_unchanged(source, self._device)
        except Exception as error:
            self._tell(source.id, "FAILED", str(error))
            raise
        self._on_found(LanguageModelFound(source.id, loaded.description))
        self._tell(source.id, "LOADED")
        return loaded

    def _tell(
        self,
        language_model_id: str,
        status: Literal["UNLOADED", "LOADING", "LOADED", "FAILED"],
        message: str | None = None,
    ) -> None:
        self._on_change(LanguageModelChanged(language_model_id, status, message))


def _load_unchanged(source: LanguageModelSource, device: str) -> _Loaded:
    """Load a model from files that stay as they are meanwhile: their hashes are those of its weights."""
    for _ in range(_LOADS):
        stamp, state = stamp_of(source), state_inside(source)
        place, lm, notes = _load(source, device)
        files = ReadFiles.now(source, stamp, place)
        if stamp_of(source) == stamp and state_inside(source) == state:
            return _Loaded(source, files, lm, notes, describe(lm, files.origin))
        del lm
    raise TaskError(
        f"The files of the language model {name_of(source)} change while it is loaded: try again once they"
        " stay.",
        "CONFLICT",
    )


def _load(source: LanguageModelSource, device: str) -> tuple[str, LanguageModel, list[str]]:
    try:
        place = place_to_load(source)
        lm, notes = _from_place(source, place, device)
    except (TaskError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        sentence = without_places(sentences_of(error), source)
        reason = f"The language model {name_of(source)} could not be loaded: {sentence}"
        raise TaskError(reason, "CONFLICT") from error
    set_up_tokens(lm, source, place)
    write_tokenizer(source, lm.tokenizer, special_token_ids(lm))
    _set_up_tokenizer(lm.tokenizer)
    # Now, while nobody's hooks are on it.
    add_inputs(lm)
    return place, lm, notes


def _from_place(source: LanguageModelSource, place: str, device: str) -> tuple[LanguageModel, list[str]]:
    """Do what mi_crow's from_huggingface does, which hides what transformers tells of the weights."""
    loaded = load_weights(place, DTYPES[source.dtype])
    tokenizer = load_tokenizer(place, loaded.model.get_input_embeddings().weight.shape[0])
    notes = [*loaded.notes, *notes_of_tokenizer(tokenizer, Path(place))]
    return LanguageModel(loaded.model, tokenizer, LocalStore(source.copy_dir), device=device), notes


def _set_up_tokenizer(tokenizer: Any) -> None:
    """Give the tokenizer a padding token, and have it cut texts at their end.

    Upstream would add a token to a tokenizer without one and resize the model for it. Which token pads is
    without effect: the attention mask leaves padding out, by place and not by token.
    """
    tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:
        stand_ins = (tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
        tokenizer.pad_token = next(filter(None, stand_ins), None) or tokenizer.convert_ids_to_tokens(0)


def special_token_ids(lm: LanguageModel) -> set[int]:
    """Return the ids of the tokens that never count."""
    return set(lm.context.special_token_ids or ())


def describe(lm: LanguageModel, origin: LanguageModelProvenance | None = None) -> LanguageModelDescription:
    """Say what a loaded language model is."""
    config: Any = lm.model.config
    embedding: Any = lm.model.get_input_embeddings()
    return LanguageModelDescription(
        architecture=type(lm.model).__name__,
        parameter_count=sum(parameter.numel() for parameter in lm.model.parameters()),
        hidden_size=int(config.get_text_config().hidden_size),
        vocabulary_size=int(embedding.weight.shape[0]),
        layers=describe_layers(lm),
        context_length=position_limit(lm),
        tokenizer=facts_of_model(lm),
        origin=origin,
    )
