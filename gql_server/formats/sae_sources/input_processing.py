"""What was done to an SAE's inputs in its training, folded into its weights: it takes them as they are then.

A factor s: the SAE took s x and gave s x_hat. With W_e s, W_d / s and b_d / s for W_e, W_d and b_d it takes x
and gives x_hat, with the same latents: as ``SAE.fold_activation_norm_scaling_factor`` of sae-lens. (Where
lengths of decoder rows are folded as well, latents are as long as what they add to x_hat.)

A mean: TransformerLens' center_writing_weights takes the mean out of whatever is written into the residual
stream, so the SAE took x - mean(x) for each token. That is the encoder without its rows' means.
"""

from dataclasses import replace

from gql_server.formats.sae_sources.description import SaeDescription, scaled
from gql_server.formats.sae_sources.places import place_of
from gql_server.formats.sae_sources.refusing import NotRepresentable

WRITING_KINDS = ("BLOCK", "ATTENTION", "MLP")
"""Kinds of layers whose output is what center_writing_weights centers."""
MIN_SCALE, MAX_SCALE = 1e-6, 1e6


def lacks_scale(described: SaeDescription, scale: float | None) -> str | None:
    """Say that a factor is missing, or has no place; None where all is well."""
    if scale is None and described.scaled_by is not None:
        return (
            f"{described.scaled_by}: its inputs were multiplied by a factor that its files leave out. Give"
            " it as inputScale: the square root of their width divided by the mean length of the activations"
            " that it was trained on (SAELens calls it norm_scaling_factor)."
        )
    if scale is not None and described.weights is None:
        return "A checkpoint of a class of this server takes its inputs as they are: leave out inputScale."
    return None


def folded(described: SaeDescription, scale: float | None, center: bool) -> SaeDescription:
    """Return a description whose weights take activations as they are.

    Args:
        described: As its files tell.
        scale: What its inputs were multiplied by; None for nothing.
        center: Whether each token's mean was subtracted before.

    Raises:
        NotRepresentable: A factor is missing, or has no place.
    """
    reason = lacks_scale(described, scale)
    if reason is None and center and described.weights is None:
        reason = (
            "A checkpoint of a class of this server takes its inputs as they are: leave out centerInputs."
        )
    if reason is not None:
        raise NotRepresentable(reason)
    plan = described.weights
    if plan is None:
        return described
    notes = [*described.notes]
    if scale is not None:
        bias = plan.decoder_bias
        plan = replace(
            plan,
            encoder_weight=scaled(plan.encoder_weight, scale),
            decoder_weight=scaled(plan.decoder_weight, 1 / scale),
            decoder_bias=None if bias is None else scaled(bias, 1 / scale),
        )
        said = "" if described.scaled_by else " Its source says nothing of such a factor."
        notes.append(f"The factor {scale:g} of its inputs went into the weights.{said}")
    if center:
        plan = replace(plan, centers_inputs=True)
        notes.append(
            "The encoder takes each token's mean out of its input, as center_writing_weights does for all"
            " that is written into the residual stream: reconstructions have no mean, which the model's"
            " norms take out as well."
        )
    else:
        notes.extend(described.notes_on_processing)
    return replace(described, weights=plan, notes=notes)


def centers(described: SaeDescription, asked: bool | None, kind: str, has_layer_norms: bool | None) -> bool:
    """Whether to center an SAE's inputs: as was asked for, or where its source says so and that is exact.

    Args:
        described: As its files tell.
        asked: What the request says; None for nothing.
        kind: The layer's LayerKind.
        has_layer_norms: Whether TransformerLens centers what the language model writes; None where nobody
            knows. It leaves models with other norms as they are.
    """
    if asked is not None:
        return asked
    place = place_of(described.place)
    is_written = kind in WRITING_KINDS and place is not None and place.kind in WRITING_KINDS
    return described.says_centered and is_written and has_layer_norms is True
