"""What an import tells of an SAE beside its weights: where it belongs, and what its training's texts were."""

from gql_server.formats.sae_sources.description import SaeDescription
from gql_server.formats.sae_sources.places import NORMS_BEHIND, is_elsewhere, place_of
from gql_server.formats.sae_sources.registry import FORMATS
from gql_server.protocol.tasks import ImportSae


def notes_on(task: ImportSae, described: SaeDescription) -> list[str]:
    """Return sentences for the job's log."""
    title = FORMATS[described.format].title
    notes = []
    if task.n_inputs is None:
        notes.append("The layer's width is not known, so it was not compared with the SAE's.")
    if described.computed_in is not None:
        notes.append(f"{title} computes it in {described.computed_in}; here it is computed in float32.")
    if described.input_normalization != "NONE":
        notes.append(
            "Each token is normalized before it is encoded, and restored by its own numbers after"
            f" ({described.input_normalization}): latents are as large as normalized activations make them."
        )
    return [
        *notes,
        *_on_place(task, described),
        *_on_output(task, described),
        *_on_bos(task, described),
        *described.notes,
    ]


def _on_place(task: ImportSae, described: SaeDescription) -> list[str]:
    place = place_of(described.place)
    if place is None:
        return []
    norm = NORMS_BEHIND.get(place.kind or "")
    if described.reads_before_gain:
        notes_of_gain = [
            f"Its source names the place {described.place}, a norm's value before its gain: the gain of"
            f" {task.layer} went into its encoder, so that it reads what that puts out."
        ]
    else:
        notes_of_gain = []
    if task.named_layer == task.layer:
        return notes_of_gain
    if task.named_layer is not None and place.reads != "BLOCK":
        return [
            f"Its source names the place {described.place}, which is the layer {task.named_layer} of this"
            f" language model, not {task.layer}: what it reconstructs there may mean nothing."
        ]
    is_inside = place.inside is not None and not described.reads_before_gain
    if is_inside or is_elsewhere(place, task.kind, task.depth, task.layer, task.norms_behind):
        behind = (
            f" In this model, which has norms behind attention and MLP, it is what {norm} puts out."
            if place.is_behind_norm and task.norms_behind
            else ""
        )
        return [
            f"Its source names the place {described.place}, which is another place than the layer"
            f" {task.layer}: what it reconstructs there may mean nothing.{behind}"
        ]
    if place.is_behind_norm and task.norms_behind is None:
        return [
            f"Its source names the place {described.place}: in models with a norm behind that, such as"
            f" Gemma 2, it is what that norm ({norm}) puts out, not the module before it."
        ]
    return notes_of_gain


def _on_output(task: ImportSae, described: SaeDescription) -> list[str]:
    place = place_of(described.output_place)
    if place is None or task.output_layer is None or task.output_kind is None:
        return []
    if not is_elsewhere(place, task.output_kind, task.output_depth, task.output_layer, task.norms_behind):
        return []
    return [
        f"Its source says that it writes {described.output_place}, which is another place than the layer"
        f" {task.output_layer}: what it reconstructs there may mean nothing."
    ]


def _on_bos(task: ImportSae, described: SaeDescription) -> list[str]:
    """Say what stood before the texts that the SAE was trained on, and what stands before those here."""
    trained_with, here = described.prepends_bos, task.writes_bos
    if here is None:
        return []
    written = "one is" if here else "none is"
    if trained_with is None:
        return [
            "Its source does not say whether a BOS stood before the texts that it was trained on; for this"
            f" language model, {written} written before texts."
        ]
    if trained_with == here:
        began = "with a BOS" if here else "without a BOS"
        return [
            f"Its source says that it was trained on texts {began} before them, and {written} written for"
            " this language model: that is the same."
        ]
    if trained_with:
        return [
            "Its source says that it was trained on texts with a BOS before them (prepend_bos: true), and"
            " nothing is written before texts for this language model: set its addBos to true"
            " (updateLanguageModel) for the same activations."
        ]
    return [
        "Its source says that it was trained on texts without a BOS before them (prepend_bos: false), and"
        " one is written for this language model: set its addBos to false (updateLanguageModel) for the same"
        " activations."
    ]
