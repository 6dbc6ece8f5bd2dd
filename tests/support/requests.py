"""Requests as resolvers hand them to services, small and valid."""

from gql_server.services.requests import CaptureRequest, DatasetRequest, GenerateRequest, TrainRequest
from models.enums import DatasetKind, FloatType

PROMPT = "a prompt that nobody else shall read"


def capture_request(language_model_id: str, key: str | None = None, text: str = "hello") -> CaptureRequest:
    dataset = DatasetRequest(DatasetKind.INLINE, texts=[text])
    return CaptureRequest(
        language_model_id, ["m_layers_1"], dataset, None, 0, None, 2, 16, FloatType.FLOAT32, key
    )


def train_request(run_id: str) -> TrainRequest:
    return TrainRequest(run_id, None, None, "TopKSae", None, 4, 1, 100, None, None, 0, None, True, None)


def generate_request(language_model_id: str) -> GenerateRequest:
    return GenerateRequest(
        language_model_id, None, [PROMPT], False, 5, 1.0, None, None, None, None, 0, None, False, 0, 0, False
    )
