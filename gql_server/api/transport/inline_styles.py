"""Style sheets inside of pages, which a content security policy lets in by their hash."""

import base64
import hashlib


class InlineStyle:
    """A style sheet that is written into a page's head.

    Args:
        rules: The text between the tags of its element.
    """

    def __init__(self, rules: str) -> None:
        self.element = f"<style>{rules}</style>"
        digest = base64.b64encode(hashlib.sha256(rules.encode()).digest()).decode()
        self.source = f"'sha256-{digest}'"
        """What vouches for it in ``style-src``; see https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
