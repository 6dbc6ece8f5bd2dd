"""A language model by transformers alone: token ids, outputs of modules, logits, generation."""

import codecs
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.generic import ModelOutput

_BYTE = re.compile("<0x[0-9A-F]{2}>")
_BYTE_BY_BYTE = "replace-byte-by-byte"
_INPUT = ".input"
"""Behind the name of a module: the layer is what that reads."""


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\N{REPLACEMENT CHARACTER}" * (error.end - error.start), error.end


codecs.register_error(_BYTE_BY_BYTE, _each_byte)

Change = Callable[[Tensor], Tensor]
"""Takes what a module puts out for one text [n_tokens, width], and returns what takes its place."""


class Bare:
    """A directory's model and tokenizer, one text at a time, without padding."""

    def __init__(self, directory: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        tokenizer = self.tokenizer
        self.special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        """Ids of tokens that are no content: all that the tokenizer calls special, except for <unk>."""
        self._parameters = inspect.signature(self.model.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in self._parameters else {}
        # BigBird puts other attentions into its blocks when a first short text comes.
        self.run(self.ids("a"))

    def ids(self, text: str, max_length: int | None = None) -> list[int]:
        """Return a text's token ids, cut at ``max_length``."""
        options = {} if max_length is None else {"truncation": True, "max_length": max_length}
        return list(self.tokenizer(text, **options)["input_ids"])

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return a prompt's token ids without what a tokenizer puts behind a text: it is to go on."""
        ids = self.ids(prompt)
        return ids[:-1] if ids[-1] in self.special else ids

    def text(self, ids: Sequence[int]) -> str:
        """Return the tokens' text, as ``decode`` has it unless there are broken characters of byte tokens.

        Where one byte does not fit, ``decode`` has all of a row of them broken, which no text that is given
        out token by token can have: here each byte that makes no character is U+FFFD by itself.
        """
        decoded = str(
            self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )
        # The model has a few more tokens than the tokenizer.
        names = [name or "" for name in self.tokenizer.convert_ids_to_tokens(list(ids))]
        if "\N{REPLACEMENT CHARACTER}" not in decoded or not any(map(_BYTE.fullmatch, names)):
            return decoded
        text = b"".join(
            bytes([int(name[3:5], 16)]) if _BYTE.fullmatch(name) else name.replace("▁", " ").encode()
            for name in names
        )
        return text.decode(errors=_BYTE_BY_BYTE).removeprefix(" ")

    def module(self, layer: str) -> Any:
        """Return the module that the server calls by this name."""
        prefix = type(self.model).__name__.lower()
        for path, module in self.model.named_modules():
            if f"{prefix}_{path.replace('.', '_')}" == layer:
                return module
        raise KeyError(layer)

    def run(
        self,
        ids: Sequence[int],
        layers: Sequence[str] = (),
        change: tuple[str, Change] | None = None,
        to_generate: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [n_tokens, vocabulary] and what layers put out, [n_tokens, width] each.

        ``change`` puts something in the place of a layer's output, after that has been noted. ``to_generate``
        has the model arrange its inputs as it does in ``generate``, with all tokens at once.
        """
        given = torch.tensor([list(ids)])
        inputs: dict[str, Any] = {"input_ids": given, "attention_mask": torch.ones_like(given)}
        if to_generate:
            inputs = self._arranged(inputs)
        seen: dict[str, Tensor] = {}
        handles = [self._watched(layer, seen) for layer in layers]
        if change is not None:
            handles.append(self.module(change[0]).register_forward_hook(_replace(change[1])))
        try:
            with torch.no_grad():
                logits = self.model(**inputs | self._options).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits[0], seen

    def _watched(self, layer: str, seen: dict[str, Tensor]) -> Any:
        """Note what a module puts out or, where the layer is that, what it reads."""
        if not layer.endswith(_INPUT):
            return self.module(layer).register_forward_hook(_note(seen, layer))

        def note(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            given = [*args, *options.values()]
            vectors = next(one for one in given if isinstance(one, Tensor) and one.is_floating_point())
            assert layer not in seen, f"{layer} is read more than once in a forward pass"
            seen[layer] = _vectors(vectors).detach().clone()

        return self.module(layer.removesuffix(_INPUT)).register_forward_pre_hook(note, with_kwargs=True)

    def steered_steps(
        self, prompt: str, max_new_tokens: int, layer: str, change_of: Callable[[list[int]], Change]
    ) -> tuple[list[int], Tensor]:
        """Return what ``generate`` writes, and its logits, with a hook on a layer in each of its steps.

        ``change_of`` takes the ids of a step and returns what to make of the layer's output for them.
        """
        ids: list[int] = []

        def note(module: Any, inputs: Any, options: dict[str, Any]) -> None:
            ids[:] = options["input_ids"][0].tolist()

        def edit(hidden: Tensor) -> Tensor:
            return change_of(ids)(hidden)

        handles = [
            self.model.register_forward_pre_hook(note, with_kwargs=True),
            self.module(layer).register_forward_hook(_replace(edit)),
        ]
        try:
            return self.generate_with_logits(prompt, max_new_tokens)
        finally:
            for handle in handles:
                handle.remove()

    def _arranged(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return what the model's own method makes of them; some count positions in another way there."""
        mask = inputs["attention_mask"]
        positions = {"position_ids": mask.cumsum(dim=1) - 1} if "position_ids" in self._parameters else {}
        arranged: dict[str, Any] = self.model.prepare_inputs_for_generation(
            inputs["input_ids"], attention_mask=mask, is_first_iteration=True, **positions
        )
        return {
            name: value
            for name, value in arranged.items()
            if name in self._parameters and name != "logits_to_keep"
        }

    def generate(self, prompt: str, max_new_tokens: int) -> list[int]:
        """Return what transformers' own ``generate`` writes after a prompt, greedily."""
        return self.generate_with_logits(prompt, max_new_tokens)[0]

    def generate_with_logits(self, prompt: str, max_new_tokens: int) -> tuple[list[int], Tensor]:
        """Return the tokens and the logits that each was chosen from, [n_tokens, vocabulary]."""
        given = torch.tensor([self.prompt_ids(prompt)])
        with torch.no_grad():
            output = self.model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        return output.sequences[0, given.shape[1] :].tolist(), torch.cat(output.logits)

    @property
    def end_ids(self) -> set[int]:
        """Return the ids that end a text."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return {token_id for token_id in [*ids, self.tokenizer.eos_token_id] if token_id is not None}


def tensor_of(output: Any) -> Tensor:
    """Return the hidden states among a module's outputs."""
    if isinstance(output, Tensor):
        return output
    first = output[0]
    assert isinstance(first, Tensor)
    return first


def _vectors(output: Tensor) -> Tensor:
    """Return the one text's vectors [n_tokens, width]; of Gemma 3n's stacked streams, the first one's."""
    if output.ndim == 4:
        output = output[0]
    return output[0] if output.ndim == 3 else output


def _note(seen: dict[str, Tensor], layer: str) -> Any:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        assert layer not in seen, f"{layer} runs more than once in a forward pass"
        seen[layer] = _vectors(tensor_of(output)).detach().clone()

    return hook


def _replace(change: Change) -> Any:
    def hook(module: Any, inputs: Any, output: Any) -> Any:
        before = tensor_of(output)
        hidden = before.clone()
        _vectors(hidden).copy_(change(_vectors(before)))
        if isinstance(output, Tensor):
            return hidden
        if isinstance(output, ModelOutput):
            return type(output)(**output | {next(iter(output)): hidden})
        if isinstance(output, tuple | list):
            others = [hidden, *output[1:]]
            return type(output)(*others) if hasattr(output, "_fields") else type(output)(others)
        raise TypeError(type(output).__name__)

    return hook
