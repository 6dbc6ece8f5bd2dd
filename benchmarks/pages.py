"""Pages whose tables a command writes anew, between two marks, and the machine that they are of."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


class Marks:
    """The two comments between which a command writes."""

    def __init__(self, command: str) -> None:
        self.begin = f"<!-- measured: {command} writes what follows -->"
        self.end = f"<!-- end of what {command} writes -->"

    def put_between(self, page: str, measured: str) -> str:
        """Return the page with what stands between the marks replaced; ValueError where it lacks them."""
        before, begin, rest = page.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not (begin and end):
            raise ValueError(f"the page needs the marks {self.begin} and {self.end}")
        return f"{before}{begin}\n\n{measured}\n\n{end}{after}"


def machine() -> str:
    """Describe this machine and what runs on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "mi-crow"))
    python = platform.python_version()
    return f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GB; Python {python}, {versions}."


def _processor() -> str:
    """Return the processor's name as Linux has it, with its bfloat16 instructions, which AMP lives on."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    lines = information.read_text().splitlines()
    pairs = (line.partition(":") for line in lines)
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = fields.get("flags", "").split()
    kinds = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    has = f"with {' and '.join(kinds)}" if kinds else "without bfloat16 instructions"
    return f"{fields.get('model name', platform.machine())} {has}"
