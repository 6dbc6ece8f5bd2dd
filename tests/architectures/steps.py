"""The steps that each model goes through, and the check of each, computed another way."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from gql_server.protocol.events import NeuronActivationMessage, OutputFinished
from gql_server.protocol.results import LayerDescription
from gql_server.protocol.sources import Edit
from tests.architectures.bench import MAX_LENGTH, TEXTS, Array, Bench, K, assert_close
from tests.architectures.making import MAX_NEW_TOKENS
from tests.architectures.numpy_saes import move_threshold, of_checkpoint
from tests.architectures.overrides import BLOCKS, STEPWISE
from tests.compute.evaluation_by_hand import ByHand, log_softmax

FROZEN = 1e-12
"""A learning rate with which a training leaves the weights as they are."""


def load(bench: Bench) -> None:
    """Hold the model's description against what transformers has loaded."""
    bench.description = description = bench.load()
    model = bench.bare.model
    assert description.architecture == type(model).__name__
    assert description.parameter_count == sum(parameter.numel() for parameter in model.parameters())
    assert description.vocabulary_size == model.get_input_embeddings().weight.shape[0]
    assert description.hidden_size == model.config.get_text_config().hidden_size


def layers(bench: Bench) -> None:
    """Hold the list of layers against the configuration and hooks on every module of a bare forward pass."""
    assert bench.description is not None
    listed = bench.description.layers
    ids = bench.bare.ids(TEXTS[0])
    _, outputs = bench.bare.run(ids, [layer.name for layer in listed])
    for layer in listed:
        assert layer.name in outputs, f"{layer.name} does not run"
        assert outputs[layer.name].shape == (len(ids), layer.width), f"{layer.name} has another shape"
    _choose(bench, listed)
    blocks = [layer for layer in listed if layer.kind == "BLOCK"]
    config = bench.bare.model.config.get_text_config(decoder=True)
    n_blocks = BLOCKS.get(bench.made.model_type, config.num_hidden_layers)
    assert [block.depth for block in blocks] == list(range(n_blocks)), (
        f"{n_blocks} layers, but blocks {[block.name for block in blocks]}"
    )
    heads = [layer.name for layer in listed if layer.kind == "HEAD"]
    head = bench.bare.model.get_output_embeddings()
    assert [bench.bare.module(name) is head for name in heads] == [True] * (head is not None)


def _choose(bench: Bench, listed: list[LayerDescription]) -> None:
    """Take a block that others follow for the SAE, and for the capture beside it parts of the last block.

    Where no block gives one vector per token, an MLP or what mixes positions has to do, or the whole body.
    """
    deepest = max((layer.depth for layer in listed if layer.depth is not None), default=None)
    parts = [layer for layer in listed if layer.kind in ("MLP", "ATTENTION", "MIXER")]
    blocks = [layer for layer in listed if layer.kind == "BLOCK"] or parts
    blocks = blocks or [layer for layer in listed if layer.kind == "OTHER"]
    assert blocks, "no block, and no part of one, gives one vector per token"
    chosen = blocks[(len(blocks) - 1) // 2]
    last = [layer.name for layer in parts if layer.depth == deepest and layer is not chosen]
    read = [layer.name for layer in listed if layer.kind == "INPUT"]
    bench.layer, bench.width = chosen.name, chosen.width or 0
    bench.captured = [chosen.name, *last[:2], *read[-1:]]


def capture(bench: Bench) -> None:
    """Hold every stored activation against a hook on the same module, each text alone, without padding."""
    assert bench.captured, "there is no layer to capture"
    bench.capture(bench.captured)
    counts = bench.stored_ids()
    assert sorted(counts) == list(range(len(TEXTS)))
    stored = {layer: bench.stored(layer) for layer in bench.captured}
    for row, text in enumerate(TEXTS):
        ids = bench.bare.ids(text, MAX_LENGTH)
        assert counts[row][0] == ids, f"token ids of text {row}"
        assert counts[row][1] == bench.counts(ids).tolist(), f"tokens of text {row} that count"
        _, outputs = bench.bare.run(ids, bench.captured)
        for layer in bench.captured:
            assert_close(stored[layer][row], outputs[layer], f"{layer}, text {row}")


def train(bench: Bench) -> None:
    """Train, and hold the figures of a training that changes nothing against NumPy."""
    assert bench.layer, "there is no layer to train on"
    points = bench.train("sae_a")
    assert points
    for point in points:
        figures = (point.loss, point.mse, point.explained_variance, point.l0)
        assert np.isfinite(figures).all(), f"step {point.step}: {figures}"
    assert points[-1].mse < points[0].mse, "the error has not become smaller"
    move_threshold(bench.directory / "sae_a" / "sae.pt")
    rows = bench.counted_rows()
    frozen = bench.train(
        "sae_frozen", sae_class="TopKSae", batch_size=len(rows), epochs=1, learning_rate=FROZEN
    )[-1]
    sae = of_checkpoint(bench.directory / "sae_frozen" / "sae.pt", "TopKSae", K)
    latents = sae.latents(rows)
    error = ((rows - sae.reconstruct(latents)) ** 2).sum()
    assert frozen.token_count == len(rows)
    assert_close(frozen.mse, error / rows.size, "mse")
    variance = 1 - error / ((rows - rows.mean(axis=0)) ** 2).sum()
    assert_close(frozen.explained_variance, variance, "explained variance")
    assert_close(frozen.l0, (latents != 0).sum(axis=1).mean(), "l0")


def index(bench: Bench) -> None:
    """Hold every neuron's figures against the stored rows and the saved SAE in NumPy."""
    bench.index()
    found = load_file(bench.store.index_path("idx_a"))
    latents = bench.sae.latents(bench.counted_rows())
    fired = latents > 0
    assert fired.any()
    np.testing.assert_array_equal(found["firing_count"], fired.sum(axis=0))
    assert_close(found["frequency"] * len(latents), found["firing_count"], "frequency")
    assert_close(found["max_activation"], latents.max(axis=0), "max activation")


def top_neurons(bench: Bench) -> None:
    """Hold each prompt's ranking against encoding a bare forward pass of the prompt alone."""
    prompts = [*bench.made.prompts, TEXTS[2]]
    for prompt, found in zip(prompts, bench.top_neurons(prompts), strict=True):
        ids = [token.token_id for token in found.tokens]
        assert ids in (bench.bare.ids(prompt), bench.bare.prompt_ids(prompt)), f"{prompt}: token ids"
        counted = bench.counts(ids)
        assert [token.special for token in found.tokens] == (~counted).tolist(), f"{prompt}: special tokens"
        _, outputs = bench.bare.run(ids, [bench.layer])
        latents = bench.sae.latents(outputs[bench.layer].double().numpy())
        latents[~counted] = 0
        _assert_ranked(found.neurons, latents.max(axis=0), prompt)
        for token in found.per_token:
            _assert_ranked(token.neurons, latents[token.token_index], f"{prompt}: token {token.token_index}")


def _assert_ranked(found: list[NeuronActivationMessage], latents: Array, what: str) -> None:
    dense = np.zeros_like(latents)
    for entry in found:
        dense[entry.neuron_index] = entry.activation
    assert_close(dense, latents, what)
    activations = [entry.activation for entry in found]
    assert activations == sorted(activations, reverse=True), what


def generation(bench: Bench) -> None:
    """Hold what a batch of two gives against transformers' own ``generate`` on each prompt alone."""
    prompts = list(bench.made.prompts)
    outputs = bench.generate(prompts, None, "ERROR_PRESERVING")
    for prompt, output in zip(prompts, outputs, strict=True):
        expected = bench.bare.generate(prompt, MAX_NEW_TOKENS)
        ended = expected[-1] in bench.bare.end_ids
        _assert_output(bench, output, expected[:-1] if ended else expected, ended)
    assert outputs[0].finish_reason == "END_OF_TEXT" and outputs[1].finish_reason == "LENGTH"
    assert len(outputs[0].tokens) < len(outputs[1].tokens)


def _assert_output(bench: Bench, output: OutputFinished, expected: list[int], ended: bool) -> None:
    assert [token.token_id for token in output.tokens] == expected, f"tokens after {output.prompt!r}"
    assert output.finish_reason == ("END_OF_TEXT" if ended else "LENGTH")
    given = bench.bare.prompt_ids(output.prompt)
    before, after = bench.bare.text(given), bench.bare.text(given + expected)
    assert output.text == after[len(before) :], f"text after {output.prompt!r}"
    assert output.text == "".join(token.text for token in output.tokens)


def error_preserving(bench: Bench) -> None:
    """Hold steering against full forward passes with decode(edited) - decode(latents) added."""
    _steer(bench, "ERROR_PRESERVING")


def reconstruction(bench: Bench) -> None:
    """Hold steering against full forward passes with decode(edited) in the layer's place."""
    _steer(bench, "RECONSTRUCTION")


def _steer(bench: Bench, mode: str) -> None:
    prompts = list(bench.made.prompts)
    edits = _edits(bench)
    for prompt, output in zip(prompts, bench.generate(prompts, edits, mode), strict=True):
        if bench.made.model_type in STEPWISE:
            ids, logits = bench.bare.steered_steps(
                prompt,
                MAX_NEW_TOKENS,
                bench.layer,
                lambda ids: _change(bench, ids, edits, mode),
            )
        else:
            ids, logits = _steered(bench, prompt, edits, mode)
        ended = ids[-1] in bench.bare.end_ids
        generated = ids[:-1] if ended else ids
        _assert_output(bench, output, generated, ended)
        rows = logits.log_softmax(dim=1)
        expected = [float(row[token]) for row, token in zip(rows, generated, strict=False)]
        assert_close(
            [token.log_probability for token in output.tokens], expected, f"{prompt}: log-probability"
        )


def _steered(bench: Bench, prompt: str, edits: list[Edit], mode: str) -> tuple[list[int], Tensor]:
    """Generate by a full forward pass for each token; return the tokens and the logits of each."""
    given, ids, logits = bench.bare.prompt_ids(prompt), list[int](), list[Tensor]()
    while len(ids) < MAX_NEW_TOKENS and not bench.bare.end_ids.intersection(ids[-1:]):
        change = _change(bench, [*given, *ids], edits, mode)
        whole, _ = bench.bare.run([*given, *ids], change=(bench.layer, change), to_generate=True)
        logits.append(whole[-1])
        ids.append(int(whole[-1].argmax()))
    return ids, torch.stack(logits)


def _edits(bench: Bench) -> list[Edit]:
    """Strengthen the neuron that fires most often, and add to a silent one."""
    latents = bench.sae.latents(bench.counted_rows())
    order = (latents > 0).sum(axis=0).argsort()
    scale = float(latents.max())
    return [Edit(int(order[-1]), 2.0, 0.0), Edit(int(order[0]), 1.0, 0.5 * scale)]


def _change(bench: Bench, ids: list[int], edits: list[Edit], mode: str) -> Callable[[Tensor], Tensor]:
    counted = bench.counts(ids)

    def change(hidden: Tensor) -> Tensor:
        # XLM puts a token behind the text, at which it predicts, and which is none of the text.
        x = hidden[: len(ids)].double().numpy()
        latents = bench.sae.latents(x)
        edited = latents.copy()
        for edit in edits:
            column = latents[counted, edit.neuron_index]
            edited[counted, edit.neuron_index] = column * edit.multiplier + edit.bias
        after = bench.sae.reconstruct(edited)
        if mode == "ERROR_PRESERVING":
            after = x + after - bench.sae.reconstruct(latents)
        return torch.cat([torch.from_numpy(after).to(hidden.dtype), hidden[len(ids) :]])

    return change


def evaluation(bench: Bench) -> None:
    """Hold every figure against bare forward passes of each text alone and NumPy."""
    result = bench.evaluate()
    expected = _Evaluation(bench).figures(TEXTS, MAX_LENGTH)
    for name, figure in expected.items():
        if name != "ce_loss_recovered":  # A quotient of small differences between the others.
            assert_close(getattr(result, name), figure, name)


class _Evaluation(ByHand):
    """The figures by hand, each text alone."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self.sae = bench, bench.sae

    def figures(self, texts: Sequence[str], max_length: int) -> dict[str, float]:
        rows: list[Array] = []
        passes: dict[str, list[Array]] = {"own": [], "reconstructed": [], "zeroed": []}
        targets: list[int] = []
        for text in texts:
            ids = self._bench.bare.ids(text, max_length)
            counted = self._bench.counts(ids)
            x, own = self._pass(ids, None)
            wide = x[counted].double().numpy()
            hat, zeroed = x.clone(), x.clone()
            hat[counted] = torch.from_numpy(self._reconstruct(wide)).to(x.dtype)
            zeroed[counted] = 0.0
            for kept, logits in zip(
                passes.values(), (own, self._pass(ids, hat)[1], self._pass(ids, zeroed)[1]), strict=True
            ):
                kept += [
                    log_softmax(logits[place - 1].double().numpy())
                    for place in range(1, len(ids))
                    if counted[place]
                ]
            targets += [ids[place] for place in range(1, len(ids)) if counted[place]]
            rows.append(wide)
        return self._near(np.concatenate(rows)) | self._predicted(passes, targets)

    def _pass(self, ids: list[int], instead: Tensor | None) -> tuple[Tensor, Tensor]:
        layer, bare = self._bench.layer, self._bench.bare
        change = None if instead is None else (layer, lambda hidden: instead)
        logits, outputs = bare.run(ids, [layer], change)
        return outputs[layer], logits


STEPS: dict[str, Callable[[Bench], Any]] = {
    "load": load,
    "layers": layers,
    "capture": capture,
    "train": train,
    "index": index,
    "top neurons": top_neurons,
    "generation": generation,
    "error-preserving": error_preserving,
    "reconstruction": reconstruction,
    "evaluation": evaluation,
}
"""In their order."""
_SAE = ("train",)
NEEDS: dict[str, tuple[str, ...]] = {
    "layers": ("load",),
    "capture": ("load",),
    "train": ("load",),
    "index": _SAE,
    "top neurons": _SAE,
    "error-preserving": _SAE,
    "reconstruction": _SAE,
    "evaluation": _SAE,
}
"""The steps without which another cannot begin. A capture with a wrong figure is enough to train on."""
