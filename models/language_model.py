"""Language models that this server can load."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import FloatType, LanguageModelSourceKind, LanguageModelStatus


class LanguageModel(Base):
    """A causal language model, and what its first load found out about it."""

    __tablename__ = "language_models"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    source_kind: Mapped[LanguageModelSourceKind] = mapped_column(enum_column_type(LanguageModelSourceKind))
    source: Mapped[str] = mapped_column(String)
    """Repository name, or absolute path of a directory or GGUF file."""
    revision: Mapped[str | None] = mapped_column(String(200))
    dtype: Mapped[FloatType] = mapped_column(enum_column_type(FloatType))
    status: Mapped[LanguageModelStatus] = mapped_column(
        enum_column_type(LanguageModelStatus), default=LanguageModelStatus.UNLOADED
    )
    """In the interactive worker; UNLOADED again whenever the server starts."""
    status_message: Mapped[str | None] = mapped_column(String)
    architecture: Mapped[str | None] = mapped_column(String(200))
    parameter_count: Mapped[int | None] = mapped_column(BigInteger)
    hidden_size: Mapped[int | None]
    vocabulary_size: Mapped[int | None]
    context_length: Mapped[int | None]
    """Most tokens that it takes, where its configuration says so."""
    layers: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    """Outermost first: name, kind, depth and module_class of each; None until loaded once."""
    tokenizer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """A TokenizerFacts of gql_server.tokens.options; None until loaded once by a version that keeps it."""
    add_bos: Mapped[bool | None]
    """Whether a BOS is written before texts; None is as the tokenizer does."""
    token_counts: Mapped[dict[str, bool] | None] = mapped_column(JSON(none_as_null=True))
    """Whether single tokens count, by their ids, where people have decided otherwise than the tokenizer."""
    options_version: Mapped[int | None]
    """How often the options were changed; None is never."""
    origin: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What was loaded last, a LanguageModelProvenance: whose architecture and layers these are."""
    accepted: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    """Fingerprints ``made_with`` and ``now``: the latter is accepted for what was made with the former."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
