"""What goes wrong when a language model is loaded, in sentences for people who have this server's API."""

import pickle
import re

import httpx
import transformers
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

_NOT_FOR_CLIENTS = re.compile(
    r"trust_remote_code|from_tf|from_flax|from_pt\b|ignore_mismatched_sizes|use_safetensors|weights_only|"
    r"report above|above report|pip install|force_download|hf auth|huggingface-cli|use_auth_token|token=|"
    r"Model type should be one of|should have a `model_type` key|"
    r"\bdo not hesitate\b|open an issue|If you were trying to load it from|please make sure you don't have",
    re.IGNORECASE,
)
"""Parts of messages that no client can act on: advice about transformers, and lists of hundreds of names."""
_PACKAGE = re.compile(r"pip\s+install\s+(?:-\S+\s+)*['\"]?([A-Za-z](?:[\w.-]*\w)?)")
_CLASS = re.compile(r"\b[A-Z]\w*(?:Error|Exception): ")
"""An exception's class before what it says."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(])")


class NotLoadable(Exception):
    """A model cannot be loaded; the message is a sentence or two that begin without its name."""


def sentences_of(error: BaseException) -> str:
    """Return all that an error says, on one line, without what a client of this server cannot do.

    What libraries say of frequent causes is replaced by what can be done about them here.
    """
    text = str(error)
    for kind, sentence in _BY_CLASS:
        if isinstance(error, kind):
            return sentence
    for words, sentence in _BY_WORDS:
        if match := re.search(words, text):
            return match.expand(sentence)
    kept = [part for part in _sentences(_CLASS.sub("", text)) if not _NOT_FOR_CLIENTS.search(part)]
    # Of a mistake in Python, its text alone (a missing key's name, say) is no sentence.
    if text and isinstance(error, LookupError | AttributeError | TypeError | ArithmeticError):
        name = type(error).__name__
        return f"Its files have a value that transformers cannot use ({name}: {' '.join(text.split())})."
    # An import's error is of what the server lacks, so its advice on how to install that goes without more.
    if isinstance(error, ImportError):
        packages = " ".join(dict.fromkeys(_PACKAGE.findall(text)))
        named = f", which its operator can install: {packages}" if packages else ""
        kept = [f"It needs a Python package that this server does not have{named}.", *kept]
    return " ".join(kept) or f"{type(error).__name__}."


def _sentences(text: str) -> list[str]:
    """Split a text into sentences; a line's end ends one too where the next begins as one does."""
    lines = [" ".join(line.split()) for line in re.split(r"\n(?=\s*[A-Z`(-]|\s*$)", text)]
    sentences = [part for line in lines if line for part in _SENTENCE_END.split(line)]
    if sentences and sentences[-1][-1] not in ".!?":
        sentences[-1] += "."
    return sentences


_BY_CLASS: list[tuple[type[BaseException], str]] = [
    (
        GatedRepoError,
        "The repository is gated, and this server may not read it: its operator has to be granted access on "
        "the Hub and set HF_TOKEN.",
    ),
    (
        RevisionNotFoundError,
        "The repository has no such revision: name one of its branches, tags or commits.",
    ),
    (
        RepositoryNotFoundError,
        "The Hub has no such repository, or it is private and this server may not read it (its operator can "
        "set HF_TOKEN).",
    ),
    (
        httpx.TransportError,
        "The Hub cannot be reached from this server, or does not answer. Try again later.",
    ),
    (
        pickle.UnpicklingError,
        "Its weights are a pickle that holds more than tensors, or is damaged, and is not opened for safety: "
        "save them as safetensors.",
    ),
]
_BY_WORDS: list[tuple[str, str]] = [
    (
        "instantiate the backend tokenizer",
        "The directory has none of the files that its class reads; add its tokenizer.json.",
    ),
    (
        "trust_remote_code",
        "It needs Python code of its own, which this server does not run: take a version for a class of "
        "transformers.",
    ),
    (
        r"has model type `(.*?)`",
        r"Its config.json names the model type \1, which this server's transformers "
        f"{transformers.__version__} does not know.",
    ),
]
