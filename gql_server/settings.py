"""The server's settings: one frozen object, read from ``GQL_SERVER_*`` environment variables."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PathList = Annotated[tuple[Path, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting, with its default. The variable is ``GQL_SERVER_`` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="GQL_SERVER_", frozen=True, extra="ignore")

    artifact_dir: Path = Path("artifacts")
    """Where the database, tensors, checkpoints and everything else lie."""
    host: str = "127.0.0.1"
    """Address to listen on; loopback addresses only."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    model_dirs: PathList = ()
    """Directories that language models and checkpoints may be loaded from, separated as PATH is."""
    dataset_dirs: PathList = ()
    """Directories that dataset files may be read from, separated as PATH is."""
    hub_enabled: bool = True
    """Whether Hugging Face repositories may be named as sources."""
    log_format: Literal["console", "json"] = "console"
    """Log lines for people, or one JSON object a line."""
    warm_up: bool = True
    """Start the workers in the background when the server has started, instead of when first needed."""
    workers: int = Field(default=2, ge=1, le=2)
    """Worker processes: one for jobs and one for interactive work, or 1 for both, between a job's batches."""
    worker_threads: int | None = Field(default=None, ge=1)
    """Threads of a worker's tensor operations; left to torch if not set."""
    worker_memory_bytes: int | None = Field(default=None, ge=1)
    """Memory that a worker may have (its data, as RLIMIT_DATA counts it); a task that wants more fails."""
    worker_silence_seconds: float = Field(default=60, gt=0)
    """A worker that gives no sign of life for so long is ended; one that is well gives one every second."""
    stall_seconds: float = Field(default=900, gt=0)
    """A task that has not got from one batch to the next for so long loses its worker; a load has 4 times."""
    idle_unload_seconds: float = Field(default=900, gt=0)
    """A worker lets go of a language model that nothing has used for so long."""
    max_queued_jobs: int = Field(default=100, ge=1)
    """Jobs that may wait; one more is QueueFull."""
    max_interactive_requests: int = Field(default=16, ge=1)
    """Top-neuron queries and generations that may run or wait; one more is QueueFull."""
    max_texts: int = Field(default=1_000_000, ge=1)
    """Texts of a dataset."""
    max_text_characters: int = Field(default=100_000, ge=1)
    """Characters of one text or prompt."""
    max_prompts: int = Field(default=64, ge=1)
    """Prompts of one request."""
    max_batch_size: int = Field(default=1024, ge=1)
    """Texts of a capture's batch."""
    max_length: int = Field(default=8192, ge=1)
    """Tokens of a text in a capture."""
    max_epochs: int = Field(default=1000, ge=1)
    """Epochs of a training."""
    max_training_batch_size: int = Field(default=65_536, ge=1)
    """Tokens of a training's batch."""
    max_latents: int = Field(default=1_048_576, ge=1)
    """Neurons of an SAE."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Tokens to generate for a prompt."""
    max_upload_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """Bytes of an upload, and of a dataset file; a body without files has 16 MB at most."""
    shuffle_buffer_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024)
    """Memory in which a training shuffles tokens; a run that fits is shuffled as a whole."""
    max_artifact_bytes: int | None = Field(default=None, ge=1)
    """Bytes that the artifact directory may take; what would not fit is refused or fails."""
    min_free_bytes: int = Field(default=128 * 1024 * 1024, ge=0)
    """Bytes of the disk that jobs leave free, for the database."""
    snapshot_interval_seconds: float = Field(default=30, gt=0)
    """A training saves what it needs to go on from about so often; less often where that takes long."""
    resume_jobs: bool = False
    """Take interrupted jobs up again without being asked, a lost worker's three times at most."""
    retention_days: float | None = Field(default=None, gt=0)
    """Days after a job's end for which its log is kept. For ever if not set."""
    progress_interval_seconds: float = Field(default=0.25, gt=0)
    """Progress events of a job come no more often."""
    cancel_grace_seconds: float = Field(default=10, gt=0)
    """A worker that has not reacted to a cancellation for so long is killed."""

    @field_validator("model_dirs", "dataset_dirs", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.artifact_dir / "gql_server.sqlite3"
