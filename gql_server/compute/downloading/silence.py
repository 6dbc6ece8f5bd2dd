"""What ends a download that nothing comes of any more."""


class Silence(Exception):
    """Nothing has come for too long."""
