"""A console on which a model's texts and the names in its files do nothing but stand there."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from gql_server.telemetry.plain_text import plain_lines


class PlainConsole(Console):
    """Prints with rich's own styles alone: of what is printed, no character acts on the terminal."""

    def render(self, *args: Any, **kwargs: Any) -> Iterable[Segment]:
        """Give a renderable's segments, their texts plain."""
        for segment in super().render(*args, **kwargs):
            yield segment if segment.control else segment._replace(text=plain_lines(segment.text))
