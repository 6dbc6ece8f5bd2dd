"""Where torch can compute on this machine."""

import torch
from torch import Tensor

from gql_server.compute.worker.context import TaskError


def devices(first: str | None = None) -> list[str]:
    """List torch's names of the devices here, best first; ``first`` before the others where it is here."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    found.append("cpu")
    return sorted(found, key=lambda name: name != _named(first, found))


def choose_device(asked: str | None) -> str:
    """Return the device asked for, or the best; TaskError (INVALID, device) where there is none such."""
    available = devices()
    device = _named(asked, available)
    if device not in available:
        raise TaskError(
            f"There is no device {asked!r} here; there are {', '.join(available)}.", "INVALID", ("device",)
        )
    return device


def held_bytes() -> int | None:
    """Return the memory of devices that torch holds for this process; None where it has used none."""
    if torch.cuda.is_initialized():
        return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return torch.mps.driver_allocated_memory()
    return None


def _named(asked: str | None, available: list[str]) -> str:
    if asked is None or (asked == "cuda" and available[0].startswith("cuda")):
        return available[0]
    return asked


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; CUDA takes it over while the program goes on."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
