"""What a job is about and was asked for, in words for people and in fields for forms."""

import re
from dataclasses import dataclass, field
from typing import Any

from gql_server import ids
from models import ActivationRun, Job, LanguageModel, Sae
from models.enums import LayerKind

BUILT_IN_TEXTS = {"PYTHON_REFERENCE": "the Python reference"}


def texts_for_title(dataset_description: str) -> str:
    """Return a dataset for a title: one that is built in by words, another as it is described."""
    return BUILT_IN_TEXTS.get(dataset_description, dataset_description)


@dataclass(frozen=True)
class SubjectIds:
    """The IDs of what a job is about; empty where it has none of a kind."""

    language_model: str
    activation_run: str
    sae: str

    @classmethod
    def of(cls, job: Job) -> "SubjectIds":
        """Return those that a job's row names: in its request, or as its result."""

        def named(key: str, kind: str) -> str:
            id = str(job.request.get(key) or "")
            return id or (job.result_id if ids.kind_of(job.result_id) == kind else "")

        return cls(
            named("language_model_id", ids.LANGUAGE_MODEL),
            named("activation_run_id", ids.ACTIVATION_RUN),
            named("sae_id", ids.SAE),
        )


@dataclass(frozen=True)
class Subjects:
    """The rows that a job is about, as they are now; None where it has none, or that has been deleted."""

    language_model: LanguageModel | None = None
    activation_run: ActivationRun | None = None
    sae: Sae | None = None

    @property
    def language_model_name(self) -> str:
        """For a title."""
        return self.language_model.name if self.language_model else "a deleted language model"

    @property
    def activation_run_name(self) -> str:
        """For a title."""
        return self.activation_run.name if self.activation_run else "a deleted run"

    @property
    def sae_name(self) -> str:
        """For a title."""
        return self.sae.name if self.sae else "a deleted SAE"

    def layer_name(self, layer: str) -> str:
        """Return a layer for a title: a block by its number, another by its name."""
        known = self.language_model.layers if self.language_model else None
        found = next((one for one in known or [] if one["name"] == layer), None)
        return f"block {found['depth']}" if found and found["kind"] == LayerKind.BLOCK else layer

    def activations_of(self, layer: str) -> str:
        """Return the run and one of its layers for a title; a run named by the layer says it already."""
        name, place = self.activation_run_name, self.layer_name(layer)
        says_it = re.search(rf"(?<!\w){re.escape(place)}(?!\w)", name, re.IGNORECASE)
        return f"{name}, {place}" if layer and not says_it else name


@dataclass(frozen=True)
class JobDescription:
    """What the API says of a job's request."""

    title: str
    """A sentence for lists, without a full stop."""
    asked: dict[str, Any] = field(default_factory=dict)
    """The fields of the kind's request type in the API, defaults filled in; see api/job_requests.py."""
