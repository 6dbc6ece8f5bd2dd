"""SQLAlchemy tables, one file per noun."""

from models.activation_run import ActivationRun
from models.base import Base
from models.concept import Concept
from models.concept_config import ConceptConfig
from models.concept_revision import ConceptRevision
from models.job import Job
from models.job_event import JobEvent
from models.language_model import LanguageModel
from models.neuron_index import NeuronIndex
from models.removal import Removal
from models.sae import Sae
from models.sae_evaluation import SaeEvaluation
from models.sae_number import SaeNumber
from models.stored_dataset import StoredDataset
from models.training_point import TrainingPoint

__all__ = [
    "ActivationRun",
    "Base",
    "Concept",
    "ConceptConfig",
    "ConceptRevision",
    "Job",
    "JobEvent",
    "LanguageModel",
    "NeuronIndex",
    "Removal",
    "Sae",
    "SaeEvaluation",
    "SaeNumber",
    "StoredDataset",
    "TrainingPoint",
]
