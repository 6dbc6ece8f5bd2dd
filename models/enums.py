"""The states and kinds that tables store and the API shows; the API adds the descriptions."""

from enum import StrEnum


class FloatType(StrEnum):
    """Precision of stored numbers."""

    FLOAT32 = "FLOAT32"
    FLOAT16 = "FLOAT16"
    BFLOAT16 = "BFLOAT16"


class LongTexts(StrEnum):
    """What a capture does with texts of more tokens than it takes."""

    TRUNCATE = "TRUNCATE"
    SPLIT = "SPLIT"


class LanguageModelStatus(StrEnum):
    """State of a language model in the interactive worker."""

    UNLOADED = "UNLOADED"
    LOADING = "LOADING"
    LOADED = "LOADED"
    FAILED = "FAILED"


class LanguageModelSourceKind(StrEnum):
    """Where a language model's weights come from."""

    HUGGING_FACE = "HUGGING_FACE"
    DIRECTORY = "DIRECTORY"
    GGUF = "GGUF"


class SpecialTokenReason(StrEnum):
    """By what a token is listed among a model's special ones."""

    NAMED = "NAMED"
    ADDED = "ADDED"
    VOCABULARY = "VOCABULARY"
    END_OF_TEXT = "END_OF_TEXT"
    CHAT_TEMPLATE = "CHAT_TEMPLATE"
    FORM = "FORM"
    UNKNOWN = "UNKNOWN"
    SETTING = "SETTING"


class LayerKind(StrEnum):
    """What a module of a language model is."""

    BLOCK = "BLOCK"
    ATTENTION = "ATTENTION"
    MIXER = "MIXER"
    MLP = "MLP"
    NORM = "NORM"
    EMBEDDING = "EMBEDDING"
    HEAD = "HEAD"
    INPUT = "INPUT"
    OTHER = "OTHER"


class ArtifactStatus(StrEnum):
    """State of something that a job makes."""

    PENDING = "PENDING"
    BUILDING = "BUILDING"
    READY = "READY"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"


class DatasetKind(StrEnum):
    """Where a dataset's texts come from."""

    INLINE = "INLINE"
    FILE = "FILE"
    UPLOAD = "UPLOAD"
    HUGGING_FACE = "HUGGING_FACE"
    BUILT_IN = "BUILT_IN"
    STORED = "STORED"


class SaeOrigin(StrEnum):
    """How an SAE came to be here."""

    TRAINED = "TRAINED"
    IMPORTED = "IMPORTED"


class InputNormalization(StrEnum):
    """How an SAE normalizes each token before it encodes it: gql_server/formats/input_normalizations.py."""

    NONE = "NONE"
    LAYER_NORM = "LAYER_NORM"
    RMS_NORM = "RMS_NORM"


class ConceptSource(StrEnum):
    """Who named a neuron."""

    MANUAL = "MANUAL"
    IMPORTED = "IMPORTED"
    GENERATED = "GENERATED"


class JobKind(StrEnum):
    """What a job does."""

    LOAD_LANGUAGE_MODEL = "LOAD_LANGUAGE_MODEL"
    CAPTURE_ACTIVATIONS = "CAPTURE_ACTIVATIONS"
    TRAIN_SAE = "TRAIN_SAE"
    INDEX_NEURONS = "INDEX_NEURONS"
    EVALUATE_SAE = "EVALUATE_SAE"
    IMPORT_SAE = "IMPORT_SAE"
    EXPORT_SAE = "EXPORT_SAE"


class JobStatus(StrEnum):
    """State of a job."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELING = "CANCELING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    INTERRUPTED = "INTERRUPTED"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the job unless somebody retries it."""
        return self in _ENDED


_ENDED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.INTERRUPTED})


UNFINISHED = tuple(status for status in JobStatus if status not in _ENDED)
"""The statuses in which something still happens to a job by itself."""


class ProgressUnit(StrEnum):
    """What a job's progress is counted in."""

    TEXTS = "TEXTS"
    TOKENS = "TOKENS"
    STEPS = "STEPS"
    BYTES = "BYTES"


class JobEventType(StrEnum):
    """What an entry of a job's log tells of."""

    STATUS = "STATUS"
    PROGRESS = "PROGRESS"
    LOG = "LOG"
    TRAINING_POINT = "TRAINING_POINT"
    TRAINING_RESUMED = "TRAINING_RESUMED"
