"""A language model's layers: what they are, in which order they run, and which of them can be captured."""

from torch import nn

from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.language_models.layer_kinds import LayerKinds, place_of
from gql_server.compute.language_models.layer_trace import trace
from gql_server.compute.language_models.module_inputs import ModuleInput
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.results import LayerDescription

from mi_crow.language_model.language_model import LanguageModel


def why_not(lm: LanguageModel, layer: str) -> str | None:
    """Say in a sentence why a layer cannot be captured or steered; None where it can."""
    if layer not in lm.layers.name_to_layer:
        return f"The language model has no layer {layer!r}."
    return trace(lm).why_not(layer)


def check_order(lm: LanguageModel, layer: str, output_layer: str | None) -> None:
    """Raise TaskError CONFLICT where a transcoder would write a layer before it has read its input's."""
    if output_layer is None or why_not(lm, layer) or why_not(lm, output_layer):
        return  # Whoever puts hooks there says so.
    traced = trace(lm).layers
    if traced[output_layer].order <= traced[layer].order:
        reason = (
            f"The transcoder writes the layer {output_layer}, which has its output before {layer}, which it"
            " reads: import it for a layer that comes later."
        )
        raise TaskError(reason, "CONFLICT")


def is_head(lm: LanguageModel, layer: str) -> bool:
    """Say whether a layer comes after the model's body, where few positions may be left."""
    module = lm.layers.name_to_layer.get(layer)
    module = module.reader if isinstance(module, ModuleInput) else module
    body = getattr(lm.model, lm.model.base_model_prefix, None)
    in_body = isinstance(body, nn.Module) and any(part is module for part in body.modules())
    return module is lm.model.get_output_embeddings() or (body is not None and not in_body)


def depth_order(lm: LanguageModel, layers: list[str]) -> list[str]:
    """Return the layers in the order in which they finish, the deepest last: a block after what is in it.

    Raises TaskError INVALID with the path ("layers", index) for one that is unknown or cannot be captured.
    """
    for index, layer in enumerate(layers):
        if reason := why_not(lm, layer):
            raise TaskError(reason, "INVALID", ("layers", str(index)))
    traced = trace(lm).layers
    return sorted(layers, key=lambda layer: traced[layer].order)


def describe_layers(lm: LanguageModel) -> list[LayerDescription]:
    """Describe the layers that give one vector per token, outermost first, else in the model's order."""
    traced = trace(lm).layers
    path_of_module = {id(module): path for path, module in lm.model.named_modules()}
    modules = {name: module for name, module in lm.layers.name_to_layer.items() if name in traced}
    readers = {name: module.reader for name, module in modules.items() if isinstance(module, ModuleInput)}
    paths = {name: path_of_module[id(module)] for name, module in (modules | readers).items()}
    head = lm.model.get_output_embeddings()
    kinds = LayerKinds(lm.model, head, {paths[name]: traced[name] for name in paths if name not in readers})
    return [
        LayerDescription(
            name,
            "INPUT" if name in readers else kinds[path],
            place_of(lm.model, path).block,
            type(readers.get(name, modules[name])).__name__,
            traced[name].width,
        )
        for name, path in paths.items()
    ]
