"""The enums of the tables and services as GraphQL enums: the same members, with descriptions.

Import them from here, so that no type is made before its enum has its descriptions.
"""

from gql_server.api.common import describe_enum
from gql_server.services import job_kinds
from gql_server.services.neuron_columns import NeuronColumn
from gql_server.services.neuron_conditions import NeuronOrder, NeuronSearchField
from models.enums import (
    ArtifactStatus,
    ConceptSource,
    DatasetKind,
    FloatType,
    InputNormalization,
    JobKind,
    JobStatus,
    LanguageModelSourceKind,
    LanguageModelStatus,
    LayerKind,
    LongTexts,
    ProgressUnit,
    SaeOrigin,
    SpecialTokenReason,
)

__all__ = [
    "ArtifactStatus",
    "ConceptSource",
    "DatasetKind",
    "FloatType",
    "InputNormalization",
    "JobKind",
    "JobStatus",
    "LanguageModelSourceKind",
    "LanguageModelStatus",
    "LayerKind",
    "LongTexts",
    "NeuronColumn",
    "NeuronOrder",
    "NeuronSearchField",
    "ProgressUnit",
    "SaeOrigin",
    "SpecialTokenReason",
]

describe_enum(
    FloatType,
    "Precision of stored numbers.",
    {
        "FLOAT32": "32 bits.",
        "FLOAT16": "16 bits, five of them for the exponent.",
        "BFLOAT16": "16 bits with the exponent range of FLOAT32.",
    },
)
describe_enum(
    LongTexts,
    "What a capture does with texts of more tokens than maxLength.",
    {
        "TRUNCATE": "Cut them, and count them in truncatedTextCount.",
        "SPLIT": (
            "Capture all of them, in consecutive pieces of at most maxLength tokens. Each goes through the"
            " model by itself, with what the tokenizer writes around a text."
        ),
    },
)
describe_enum(
    LanguageModelStatus,
    "State of a language model in the worker for interactive work.",
    {
        "UNLOADED": "Not in memory; it is loaded when first needed.",
        "LOADING": "On its way into memory.",
        "LOADED": "In memory.",
        "FAILED": "It could not be loaded; statusMessage says why.",
    },
)
describe_enum(
    SpecialTokenReason,
    "By what a token is listed among a language model's special ones.",
    {
        "NAMED": "The tokenizer has a name for it: BOS, EOS, padding, or one of its own.",
        "ADDED": "The tokenizer's files add it to the vocabulary as a special token.",
        "VOCABULARY": "A SentencePiece model or a GGUF file has it as a control token.",
        "END_OF_TEXT": "An added token at which the model's generation config ends texts.",
        "CHAT_TEMPLATE": "An added token in brackets that the chat template writes.",
        "FORM": "An added token that is written as control tokens are, <|user|> or <start_of_turn>.",
        "UNKNOWN": "It stands for what the vocabulary lacks, and counts.",
        "SETTING": "Somebody has decided whether it counts.",
    },
)
describe_enum(
    LayerKind,
    "What a module of a language model is.",
    {
        "BLOCK": "A transformer block: attention and MLP together, or what a model has in their place.",
        "ATTENTION": "The attention of a block.",
        "MIXER": (
            "What mixes a block's positions without attention: a state-space model such as Mamba, "
            "a recurrent layer, a short convolution."
        ),
        "MLP": (
            "The feed-forward part of a block, experts among them; where it is no module of its own, "
            "its second linear layer."
        ),
        "NORM": "A normalisation.",
        "EMBEDDING": "An embedding of tokens or positions.",
        "HEAD": "What makes logits of the last block's output.",
        "INPUT": (
            "What a module reads, where no module puts that out: the heads of an attention before they are "
            "mixed (TransformerLens' hook_z), the neurons of an MLP, the residual stream between the two, "
            "what comes into the first block. Its name is that of the module that reads, and .input."
        ),
        "OTHER": "Anything else that can be hooked.",
    },
)
describe_enum(
    LanguageModelSourceKind,
    "Where a language model's weights come from.",
    {
        "HUGGING_FACE": "A repository on the Hugging Face Hub.",
        "DIRECTORY": "A directory on the server's machine.",
        "GGUF": "A GGUF file on the server's machine.",
    },
)
describe_enum(
    ArtifactStatus,
    "State of something that a job makes.",
    {
        "PENDING": "Its job has not started.",
        "BUILDING": "Its job is writing it.",
        "READY": "Complete and checked.",
        "PARTIAL": ("Its job was canceled or interrupted; what was finished is usable and can be resumed."),
        "FAILED": "Its job has failed, or its files are gone.",
    },
)
describe_enum(
    DatasetKind,
    "Where a dataset's texts come from.",
    {
        "INLINE": "They were in the request.",
        "FILE": "A file on the server's machine.",
        "UPLOAD": "A file that was uploaded with the request.",
        "HUGGING_FACE": "A dataset of the Hugging Face Hub.",
        "BUILT_IN": "Texts that every server has.",
        "STORED": "A dataset that uploadDataset has kept.",
    },
)
describe_enum(
    SaeOrigin,
    "How an SAE came to be here.",
    {"TRAINED": "This server trained it.", "IMPORTED": "It was made elsewhere."},
)
describe_enum(
    InputNormalization,
    "What an SAE does to each token's activations before it encodes them, and undoes after it decodes, by"
    " that token's own numbers.",
    {
        "NONE": "Nothing.",
        "LAYER_NORM": "Subtracts their mean, and divides by their standard deviation.",
        "RMS_NORM": "Divides by the root of their mean square.",
    },
)
describe_enum(
    NeuronOrder,
    "Orders by figures, and filters by figures, top texts or promoted tokens, are an INVALID_INPUT error"
    " until the SAE has been indexed.",
    {
        "INDEX": "By index.",
        "FREQUENCY_DESC": "Those that fire most often first.",
        "FREQUENCY_ASC": "Those that fire most seldom first, the dead ones before all.",
        "MAX_ACTIVATION_DESC": "Those with the strongest single activation first.",
        "MAX_ACTIVATION_ASC": "Those with the weakest strongest activation first, the dead ones before all.",
        "MEAN_ACTIVATION_DESC": "Those that fire most strongly on average first.",
        "CONCEPT_NAME": "By name, whatever the case of A to Z; those without one last.",
        "CONCEPT_UPDATED_DESC": "Those named or renamed last first; those without a name last.",
    },
)
describe_enum(
    NeuronSearchField,
    "Where words are looked for.",
    {
        "CONCEPT": "In the neurons' names.",
        "NOTE": "In the notes on their names.",
        "TOP_TEXTS": "In what is shown of the top texts that the index keeps.",
        "PROMOTED_TOKENS": "In the output tokens that they raise most, those that the index keeps.",
    },
)
describe_enum(
    NeuronColumn,
    "A figure that an index has of every neuron.",
    {
        "FREQUENCY": "Share of tokens on which it fires.",
        "MAX_ACTIVATION": "Its highest activation; 0 if it never fired.",
        "MEAN_ACTIVATION": "Mean over the tokens on which it fires.",
        "DECODER_MAP_X": (
            "Where it lies from left to right on a map on which neurons with like decoder directions are near"
            " each other. NaN where the direction is zero."
        ),
        "DECODER_MAP_Y": "Where it lies from bottom to top on that map.",
    },
)
describe_enum(
    ConceptSource,
    "Who named a neuron.",
    {
        "MANUAL": "A person, through setConcept.",
        "IMPORTED": "A file, through importConcepts.",
        "GENERATED": "A program, through setConcepts.",
    },
)
describe_enum(
    JobKind,
    "What a job does.",
    {kind: handler.description for kind, handler in job_kinds.BY_KIND.items()},
)
describe_enum(
    JobStatus,
    "State of a job.",
    {
        "QUEUED": "Waits for its turn.",
        "RUNNING": "A worker is at it.",
        "CANCELING": "Asked to stop; still finishing a step.",
        "SUCCEEDED": "Done.",
        "FAILED": "Ended by an error.",
        "CANCELED": "Stopped because somebody asked for it.",
        "INTERRUPTED": (
            "The server or its worker went away while it ran; it can be retried, and resumes where it can."
            " An end, unless the server is set to resume by itself."
        ),
    },
)
describe_enum(
    ProgressUnit,
    "What a job's progress is counted in.",
    {
        "TEXTS": "Texts of a dataset.",
        "TOKENS": "Tokens of a run.",
        "STEPS": "Steps of the job.",
        "BYTES": "Bytes of files.",
    },
)
