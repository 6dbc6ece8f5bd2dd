"""A client of trainingPoints, which keeps a curve as its documentation says, and checks what it is sent."""

from dataclasses import dataclass, field
from typing import Any

POINTS = """subscription($saes: [TrainingCursor!]!) { trainingPoints(saes: $saes) {
  saeId sequence truncatedAfterStep point { step tokenCount loss explainedVariance tokensPerSecond } } }"""


@dataclass
class CurveClient:
    """What a client has of one SAE's curve."""

    sae_id: str
    points: dict[int, dict[str, Any]] = field(default_factory=dict)
    sequence: int = 0
    truncations: list[int] = field(default_factory=list)

    @property
    def cursor(self) -> dict[str, Any]:
        """The cursor to connect with."""
        last = max(self.points, default=0)
        return {"saeId": self.sae_id, "afterStep": last, "afterSequence": self.sequence}

    @property
    def steps(self) -> list[int]:
        """The steps of its points, in the order in which they came."""
        return list(self.points)

    def take(self, sent: dict[str, Any]) -> None:
        """Take in an event of the SAE; a point that it has already fails the test."""
        assert sent["saeId"] == self.sae_id
        assert sent["sequence"] >= self.sequence
        self.sequence = sent["sequence"]
        after, point = sent["truncatedAfterStep"], sent["point"]
        assert (after is None) != (point is None)
        if after is not None:
            self.truncations.append(after)
            self.points = {step: one for step, one in self.points.items() if step <= after}
        if point is not None:
            assert point["step"] > max(self.points, default=0), (point, self.steps)
            self.points[point["step"]] = point
