"""Snapshots of a training: the file that a killed or canceled one goes on from, to the same result."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from gql_server.artifacts.disk import check_free
from gql_server.artifacts.files import atomic_file
from gql_server.compute.saes.torch_files import check_sums
from gql_server.compute.training.plan import TrainingPlan
from gql_server.compute.training.training_store import TrainingStore
from gql_server.protocol.tasks import SNAPSHOT_FILE, TrainSae

log = structlog.get_logger(__name__)

QUICK_BYTES = 256 * 2**20
"""Largest snapshot that is written while the server is stopping and waits for it."""

_FORMAT = 5
"""Grows when a snapshot's content changes, or what a training makes of it."""
_PAUSES_PER_WRITE = 20
"""Least ratio of a pause to the write before it: writing takes less than 5 % of the time."""
_BYTES_BESIDE_TENSORS = 2**20

Fingerprint = dict[str, str | int | float | None]


def fingerprint(task: TrainSae, plan: TrainingPlan, rows: TrainingStore) -> Fingerprint:
    """Return, in words for people, what must be the same for a training to end in the same weights."""
    return {
        "format": _FORMAT,
        "torch version": str(torch.__version__),
        "device": plan.config.device,
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "activation run": task.run_id,
        "layer": task.layer,
        "token count": rows.token_count,
        "number of inputs": rows.n_inputs,
        "activation scale": plan.activation_scale,
        "shuffle buffer": rows.buffer_rows,
        "SAE class": task.sae_class,
        "number of neurons": task.n_latents,
        "k": plan.config.k,
        "number of epochs": plan.config.epochs,
        "batch size": plan.config.batch_size,
        "learning rate": plan.config.learning_rate,
        "l1Lambda": plan.config.l1_lambda,
        "seed": plan.config.seed,
        # None is what a snapshot of before there were exclusions has, too.
        "number of first positions left out": plan.config.exclude_first_positions or None,
        "excludeOutliers": plan.config.exclude_outliers,
        "groupFractions": None if plan.config.group_fractions is None else str(plan.config.group_fractions),
    }


@dataclass(frozen=True)
class Snapshot:
    """All that changes as a training goes, after a whole step. The tensors are the live ones, not copies."""

    step: int
    engine: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    random: dict[str, Tensor]
    report: dict[str, Any]


class UnusableSnapshot(Exception):
    """There is no snapshot for this training; says why in a clause for people, without a full stop."""


class Snapshots:
    """One training's snapshot on disk: the last one.

    ``step_on_disk`` is the step of the one that the training came from or has written, or 0.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: Fingerprint,
        *,
        interval_seconds: float,
        min_free_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = directory / SNAPSHOT_FILE
        self._fingerprint = fingerprint
        self._interval = self._pause = interval_seconds
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._pause_began = clock()
        self.step_on_disk = 0

    def exists(self) -> bool:
        """Whether there is a snapshot of any training."""
        return self._path.exists()

    def read(self) -> Snapshot:
        """Return the snapshot, its tensors on the CPU; UnusableSnapshot where none is for this training."""
        if not self.exists():
            raise UnusableSnapshot("There is no snapshot to go on from")
        found, state = self._load()
        for name, value in self._fingerprint.items():
            if found.get(name) != value:
                raise UnusableSnapshot(
                    f"The snapshot's {name} is {found.get(name)}, this training's is {value}"
                )
        return Snapshot(**state)

    def due(self) -> bool:
        """Whether it is time to write one."""
        return self._clock() - self._pause_began >= self._pause

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot in the place of the last; OSError where the disk has no room for both."""
        began = self._clock()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        check_free(self._path.parent, _n_bytes(vars(snapshot)) + _BYTES_BESIDE_TENSORS, self._min_free_bytes)
        # Into a file opened here: what torch opens itself says nothing of the reason where writing fails.
        with atomic_file(self._path) as temporary, temporary.open("wb") as file:
            torch.save({"fingerprint": self._fingerprint, "state": vars(snapshot)}, file)
        self.step_on_disk = snapshot.step
        self._pause_began = self._clock()
        self._pause = max(self._interval, _PAUSES_PER_WRITE * (self._pause_began - began))

    def write_if_quick(self, snapshot: Snapshot) -> None:
        """Write a canceled training's last steps where that takes no time to speak of; never an error."""
        if snapshot.step == self.step_on_disk or _n_bytes(vars(snapshot)) > QUICK_BYTES:
            return
        try:
            self.write(snapshot)
        except (OSError, RuntimeError) as error:
            log.warning("canceled training left without a snapshot", step=snapshot.step, reason=repr(error))

    def _load(self) -> tuple[Fingerprint, dict[str, Any]]:
        try:
            check_sums(self._path)
            content = torch.load(self._path, map_location="cpu", weights_only=True)
            return content["fingerprint"], content["state"]
        except Exception as error:  # There is no end to what a damaged file raises.
            log.warning("snapshot not read", path=str(self._path), reason=repr(error))
            raise UnusableSnapshot("The snapshot cannot be read") from error


def engine_state(engine: nn.Module) -> dict[str, Any]:
    """Return an engine's parameters and buffers, and the plain numbers and tensors that its modules keep.

    state_dict() knows nothing of the latter, such as the running threshold of overcomplete's BatchTopKSAE.
    """
    values = {
        name: {key: _detached(value) for key, value in _attributes(module).items() if _is_plain(value)}
        for name, module in engine.named_modules()
    }
    return {"state_dict": engine.state_dict(), "values": values}


def load_engine_state(engine: nn.Module, state: dict[str, Any]) -> None:
    """Load what engine_state() returned; UnusableSnapshot, and nothing has changed, where it does not fit."""
    before = copy.deepcopy(engine_state(engine))
    try:
        _load_engine_state(engine, state)
    except (KeyError, RuntimeError) as error:
        _load_engine_state(engine, before)
        raise UnusableSnapshot("The snapshot does not fit the SAE class as it is now") from error


@torch.no_grad()
def _load_engine_state(engine: nn.Module, state: dict[str, Any]) -> None:
    # First the values: a buffer that the first step makes must be there when state_dict's tensors come.
    for name, module in engine.named_modules():
        for key, value in state["values"][name].items():
            _set(module, key, value, next(engine.parameters()).device)
    engine.load_state_dict(state["state_dict"])


def _set(module: nn.Module, key: str, value: Any, device: torch.device) -> None:
    now = getattr(module, key, None)
    if isinstance(value, Tensor) and isinstance(now, Tensor) and now.shape == value.shape:
        now.copy_(value)  # In its place, as it may be a view of something else.
    else:
        setattr(module, key, value.to(device) if isinstance(value, Tensor) else value)


def _attributes(module: nn.Module) -> dict[str, Any]:
    return vars(module) | module._buffers


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) or value is None or type(value) in (bool, int, float)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def random_state(device: str) -> dict[str, Tensor]:
    """Return the states of torch's global generators that a training on a device draws from."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({device: torch.cuda.get_rng_state(device)} if device.startswith("cuda") else {})


def set_random_state(states: dict[str, Tensor]) -> None:
    """Put torch's global generators where they were."""
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)


def _n_bytes(value: object) -> int:
    """Return the size of all tensors in nested dictionaries and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(_n_bytes(item) for item in value.values())
    return sum(_n_bytes(item) for item in value) if isinstance(value, list | tuple) else 0
