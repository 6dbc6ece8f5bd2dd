"""Numbers of SAEs."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class SaeNumber(Base):
    """A small number for an SAE whose neurons have names: IDs of rows of their words begin with it."""

    __tablename__ = "sae_numbers"

    number: Mapped[int] = mapped_column(primary_key=True)
    sae_id: Mapped[str] = mapped_column(ForeignKey("saes.id", ondelete="CASCADE"), unique=True)
