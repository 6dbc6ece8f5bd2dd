"""What may be a name on the Hugging Face Hub: nothing that leads out of the directory of a repository.

The Hub's client joins these names to paths in its cache and reads what lies there.
"""

import re

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_][\w.+-]*", re.ASCII)
MAX_LENGTH = 200
MAX_PATH_LENGTH = 500


def is_repository(name: str) -> bool:
    """Whether it is an owner and a name, or one of the old names without an owner."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name


def is_revision(name: str) -> bool:
    """Whether it is a branch, a tag or a commit by git's rules for names (git check-ref-format)."""
    parts = name.split("/")
    return (
        len(name) <= MAX_LENGTH
        and all(_PART.fullmatch(part) and not part.endswith((".", ".lock")) for part in parts)
        and ".." not in name
    )


def is_part_of_dataset(name: str) -> bool:
    """Whether it is a configuration or a split of a dataset."""
    return is_revision(name)


def is_path(name: str) -> bool:
    """Whether it may be the path of a file or directory in a repository; an empty one is all of it."""
    parts = name.split("/")
    return not name or (
        len(name) <= MAX_PATH_LENGTH
        and name.isprintable()
        and "\\" not in name
        and not any(part in ("", ".", "..") for part in parts)
    )
