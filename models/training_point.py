"""The figures of a training as it went."""

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class TrainingPoint(Base):
    """Averages over the steps since the point before; None where undefined or not finite."""

    __tablename__ = "training_points"

    sae_id: Mapped[str] = mapped_column(ForeignKey("saes.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    token_count: Mapped[int] = mapped_column(BigInteger)
    loss: Mapped[float | None]
    mse: Mapped[float | None]
    explained_variance: Mapped[float | None]
    l0: Mapped[float]
    dead_fraction: Mapped[float | None]
    learning_rate: Mapped[float]
    tokens_per_second: Mapped[float]
