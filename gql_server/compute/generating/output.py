"""One prompt's output in one variant, while it is made."""

import time
from collections.abc import Callable
from typing import Literal

import msgspec
from torch import Tensor

from gql_server.compute.inspection.peaks import Peaks
from gql_server.compute.language_models.prompts import EncodedPrompt
from gql_server.compute.language_models.token_text import StopStrings
from gql_server.protocol.events import GeneratedToken, NeuronActivationMessage, OutputFinished

Variant = Literal["BASELINE", "STEERED"]
FinishReason = Literal["LENGTH", "STOP", "END_OF_TEXT", "CANCELED"]


class Output:
    """Collects tokens and ends where it should.

    ``release`` is called with each token as soon as no stop string can take it back any more, so that the
    tokens sent make up the text. ``tokens`` and ``text`` are final once ``finish_reason`` is there.
    """

    def __init__(
        self,
        prompt_index: int,
        variant: Variant,
        encoded: EncodedPrompt,
        stops: StopStrings,
        max_tokens: int,
        release: Callable[[GeneratedToken], None],
    ) -> None:
        self.prompt_index = prompt_index
        self.variant = variant
        self.encoded = encoded
        self.tokens: list[GeneratedToken] = []
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self.peaks: Peaks | None = None
        self._stops = stops
        self._max_tokens = max_tokens
        self._release = release
        self._n_released = 0
        self._watched: list[list[float]] = []
        """Of each token of prompt and output that the model has seen."""
        self._begins: list[int] = []
        self._started = time.monotonic()
        self._elapsed = 0.0

    @property
    def next_is_last(self) -> bool:
        """Whether the next token fills the output."""
        return len(self.tokens) + 1 == self._max_tokens

    def add(self, token: GeneratedToken) -> None:
        """Add a token; afterwards the output may be finished (STOP, LENGTH)."""
        self._begins.append(len(self.text))
        self.tokens.append(token)
        self.text += token.text
        cut = self._stops.find(self.text)
        if cut is not None:
            self._cut(cut)
            self._finish("STOP")
        elif len(self.tokens) == self._max_tokens:
            self._finish("LENGTH")
        else:
            self._release_up_to(self._stops.safe_length(self.text))

    def end(self, rest: str) -> None:
        """End at the end-of-text token, no part of the output; ``rest`` is what a broken character left.

        The rest goes to the last token, here alone: that token may have been released without it.
        """
        if rest and self.tokens:
            self.tokens[-1] = msgspec.structs.replace(self.tokens[-1], text=self.tokens[-1].text + rest)
            self.text += rest
        self._finish("END_OF_TEXT")

    def see_prompt(self, peaks: Peaks, watched: list[list[float]]) -> None:
        """Take in the latents of the prompt's tokens."""
        self.peaks, self._watched = peaks, watched

    def see(self, neurons: Tensor, values: Tensor, watched: list[float], *, counts: bool) -> None:
        """Take in the next output token's latents that are not zero, and the watched ones."""
        assert self.peaks is not None
        self.peaks.add(neurons, values, counts)
        self._watched.append(watched if counts else [0.0] * len(watched))

    def close(self) -> None:
        """Take in the latents of the tokens that stayed, and stop the clock."""
        if self.peaks is not None:
            self.peaks.settle(len(self.tokens))
        self._elapsed = time.monotonic() - self._started

    def top_neurons(self, first: int) -> list[NeuronActivationMessage]:
        """Return the neurons that fire most on prompt and output; none without an SAE."""
        return self.peaks.ranked(first) if self.peaks else []

    def message(self, top_neurons: int) -> OutputFinished:
        """Say how it ended."""
        assert self.finish_reason is not None
        return OutputFinished(
            prompt_index=self.prompt_index,
            prompt=self.encoded.prompt,
            variant=self.variant,
            text=self.text,
            tokens=self.tokens,
            finish_reason=self.finish_reason,
            top_neurons=self.top_neurons(top_neurons),
            elapsed_milliseconds=self._elapsed * 1000,
            watched=self._watched[: len(self.encoded.tokens) + len(self.tokens)],
        )

    def token_text(self, place: int) -> str:
        """Return the text of a token, counted over prompt and output."""
        n_prompt = len(self.encoded.tokens)
        return self.encoded.tokens[place].text if place < n_prompt else self.tokens[place - n_prompt].text

    def _cut(self, length: int) -> None:
        """Take back everything from a character on."""
        n_kept = self._n_released
        while n_kept < len(self.tokens) and self._begins[n_kept] < length:
            n_kept += 1
        del self.tokens[n_kept:]
        if self.tokens:
            last = self.tokens[-1]
            text = last.text[: max(0, length - self._begins[n_kept - 1])]
            self.tokens[-1] = msgspec.structs.replace(last, text=text)
        self.text = self.text[:length]

    def _finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self._release_up_to(len(self.text))

    def _release_up_to(self, length: int) -> None:
        while self._n_released < len(self.tokens):
            token = self.tokens[self._n_released]
            if self._begins[self._n_released] + len(token.text) > length:
                break
            self._n_released += 1
            self._release(token)
