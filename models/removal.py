"""Files that are to go, whatever happens to the server meanwhile."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, now


class Removal(Base):
    """A file or directory whose row has been deleted; this row goes when the files have gone."""

    __tablename__ = "removals"

    path: Mapped[str] = mapped_column(String, primary_key=True)
    """Relative to the artifact directory."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
