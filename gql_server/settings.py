"""The server's settings: one frozen object, read from ``GQL_SERVER_*`` environment variables."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PathList = Annotated[tuple[Path, ...], NoDecode]
NameList = Annotated[tuple[str, ...], NoDecode]
MatmulPrecision = Literal["highest", "high", "medium"]


_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_GPU = re.compile(r"\d+|(GPU|MIG)-[0-9A-Za-z/-]+")


class Settings(BaseSettings):
    """Every setting, with its default. The variable is ``GQL_SERVER_`` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="GQL_SERVER_", frozen=True, extra="ignore")

    artifact_dir: Path = Path("artifacts")
    """Where the database, tensors, checkpoints and everything else lie."""
    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback with a token only, or where allow_without_token says so."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    root_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    """Path under which a proxy shows this server, such as /lab; the proxy may take it off or leave it."""
    token: SecretStr | None = None
    """Access token that every request must bring. Without one, whoever reaches the port may do everything."""
    allow_without_token: bool = False
    """Listen beyond loopback without a token."""
    trusted_proxies: NameList = ("127.0.0.1", "::1")
    """Proxies whose X-Forwarded-For and -Proto hold: addresses or networks, separated by commas."""
    allowed_origins: NameList = ()
    """Origins whose pages may use the API, such as https://lab.example, separated by commas; * for all."""
    introspection: bool = True
    """Whether clients may ask for the schema."""
    explorer: bool = True
    """Whether browsers get the explorer at /; else that leads to /graphql."""
    graphiql: bool = True
    """Whether browsers get GraphiQL."""
    model_dirs: PathList = ()
    """Directories that language models and checkpoints may be loaded from, separated as PATH is."""
    dataset_dirs: PathList = ()
    """Directories that dataset files may be read from, separated as PATH is."""
    hub_enabled: bool = True
    """Whether Hugging Face repositories may be named as sources."""
    log_format: Literal["console", "json"] = "console"
    """Log lines for people, or one JSON object a line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged; debug has a line for every query and request that went well, too."""
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """Collector that OpenTelemetry traces are sent to, over OTLP/HTTP, such as http://localhost:4318."""
    warm_up: bool = True
    """Start the workers in the background when the server has started, instead of when first needed."""
    workers: int = Field(default=2, ge=1, le=2)
    """Kinds of workers: for jobs and for interactive work, or 1 for both, between a job's batches."""
    job_workers: int = Field(default=1, ge=1, le=64)
    """Worker processes for jobs, each with one job at a time."""
    job_worker_gpus: NameList = ()
    """GPUs of the job workers as CUDA_VISIBLE_DEVICES names them, separated by commas: each sees one."""
    worker_threads: int | None = Field(default=None, ge=1)
    """Threads of a worker's tensor operations, at all times; if not set, the workers share the processors."""
    worker_device: str | None = None
    """Where workers compute: cuda, cuda:1, mps or cpu; the best that is there if not set."""
    worker_matmul_precision: MatmulPrecision = "highest"
    """Of float32 matrix products, as torch has it: high is TF32, medium bfloat16 where that is faster."""
    worker_memory_bytes: int | None = Field(default=None, ge=1)
    """Memory that a worker may have (its data, as RLIMIT_DATA counts it); a task that wants more fails."""
    worker_silence_seconds: float = Field(default=60, gt=0)
    """A worker that gives no sign of life for so long is ended; one that is well gives one every second."""
    stall_seconds: float = Field(default=900, gt=0)
    """A task that has not got from one batch to the next for so long loses its worker; a load has 4 times."""
    download_patience_seconds: float = Field(default=120, gt=0)
    """A download from the Hub that has brought nothing for so long is given up."""
    idle_unload_seconds: float = Field(default=900, gt=0)
    """A worker lets go of a language model that nothing has used for so long."""
    max_queued_jobs: int = Field(default=100, ge=1)
    """Jobs that may wait; one more is QueueFull."""
    max_interactive_requests: int = Field(default=16, ge=1)
    """Top-neuron queries and generations that may run or wait; one more is QueueFull."""
    max_query_characters: int = Field(default=50_000, ge=1)
    """Characters of a GraphQL document."""
    max_query_tokens: int = Field(default=2_000, ge=1)
    """Tokens of a GraphQL document: names, values and punctuation."""
    max_variable_values: int = Field(default=5_000, ge=0)
    """Values in a request's variables, those inside lists and objects among them."""
    max_query_depth: int = Field(default=20, ge=1)
    """Fields inside fields of a GraphQL operation, at the deepest place."""
    max_query_aliases: int = Field(default=30, ge=0)
    """Aliases of a GraphQL document, and fields that are selected once more beside themselves."""
    max_query_overlaps: int = Field(default=2_000, ge=1)
    """Pairs of fields of a GraphQL document for one place of the answer, which have to be compared."""
    max_query_cost: int = Field(default=30_000, ge=1)
    """Estimated values of an operation's answer; what runs a language model counts as many."""
    max_request_tokens: int = Field(default=65_536, ge=1)
    """Tokens of all prompts of a request, together with those that it may generate."""
    max_execution_seconds: float = Field(default=300, gt=0)
    """Time that a query or a mutation may take."""
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1)
    """Bytes of a request without files, and of a WebSocket's message."""
    max_answer_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Bytes of an operation's answer, or of an event's."""
    max_sockets: int = Field(default=2_000, ge=1)
    """WebSockets that may be open."""
    max_operations_per_socket: int = Field(default=100, ge=1)
    """Operations that may be under way on a WebSocket."""
    socket_init_seconds: float = Field(default=10, gt=0)
    """Time that a new WebSocket has for its connection_init."""
    socket_idle_seconds: float = Field(default=600, gt=0)
    """A WebSocket on which no operation was under way for so long is closed."""
    ping_seconds: float = Field(default=30, gt=0)
    """A WebSocket is pinged so often, and closed where nothing has come back by the next ping."""
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
    max_latents: int = Field(default=1_048_576, ge=1, le=1_048_576)
    """Neurons of an SAE."""
    max_edits: int = Field(default=1_000, ge=1)
    """Edits of a concept config, or of a generation."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Tokens to generate for a prompt."""
    max_upload_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """Bytes of an upload, and of a dataset file."""
    reader_seconds: float = Field(default=120, gt=0)
    """Time that a file which people bring may take to be read and checked."""
    reader_memory_bytes: int = Field(default=1024 * 1024 * 1024, ge=2**28)
    """Memory that reading such a file may take (its process's data, as RLIMIT_DATA counts it)."""
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

    @field_validator("artifact_dir")
    @classmethod
    def _check_encodable(cls, value: Path) -> Path:
        try:
            str(value.absolute()).encode()
        except UnicodeEncodeError:
            raise ValueError(
                "the path is no UTF-8, which libraries that write into it cannot name: rename the directory"
            ) from None
        return value

    @field_validator("model_dirs", "dataset_dirs", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @field_validator("allowed_origins", "trusted_proxies", "job_worker_gpus", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [origin for origin in value if origin != "*" and not _ORIGIN.fullmatch(origin)]:
            raise ValueError(f"{wrong[0]!r} is no origin such as https://lab.example, without a path")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            try:
                ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(
                    f"{proxy!r} is no address or network, such as 10.0.0.7 or 10.0.0.0/24"
                ) from None
        return value

    @field_validator("job_worker_gpus")
    @classmethod
    def _check_gpus(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [gpu for gpu in value if not _GPU.fullmatch(gpu)]:
            raise ValueError(f"{wrong[0]!r} is no GPU: give a number, such as 0, or a UUID of nvidia-smi -L")
        return value

    @field_validator("job_workers")
    @classmethod
    def _check_job_workers(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("workers") == 1:
            raise ValueError("with GQL_SERVER_WORKERS=1 one process does everything; leave one of both out")
        return value

    @field_validator("token", mode="before")
    @classmethod
    def _none_for_empty(cls, value: Any) -> Any:
        return value or None

    @field_validator("token")
    @classmethod
    def _check_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("a token has no spaces, and no characters beyond ASCII, which headers lack")
        return value

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.artifact_dir / "gql_server.sqlite3"
