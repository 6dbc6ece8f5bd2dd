"""Which media type an answer has, by the request's Accept header (RFC 9110, section 12.5.1)."""

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"

PREFERRED = (GRAPHQL_JSON, JSON, EVENT_STREAM)
"""Among those that a client names and likes as much: many name all of them in every request."""
DEFAULT = JSON
"""For clients that take anything, which were made before there was a media type of its own."""


def media_type_for(accept: str | None) -> str | None:
    """Return the media type to answer with; None where the client takes none that there is."""
    if accept is None or not accept.strip():
        return DEFAULT
    weights = dict(_parse(part) for part in accept.split(","))
    named = {offered: weights[offered] for offered in PREFERRED if weights.get(offered, 0) > 0}
    if named:
        return max(named, key=lambda offered: named[offered])
    if weights.get("application/*", weights.get("*/*", 0)) <= 0:
        return None
    # A type that is named here has been refused with a weight of 0.
    return next((offered for offered in (DEFAULT, GRAPHQL_JSON) if offered not in weights), None)


def names(accept: str | None, media_type: str) -> bool:
    """Return whether a client names a media type as one that it takes."""
    return any(name == media_type and weight > 0 for name, weight in map(_parse, (accept or "").split(",")))


def _parse(part: str) -> tuple[str, float]:
    """Return a media range without its parameters, and its weight."""
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0
    return media_range, 1
