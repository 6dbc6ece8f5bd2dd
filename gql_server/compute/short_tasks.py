"""Which interactive tasks are done within a moment, so that a longer one may wait for them."""

from gql_server.compute.messages.tasks import ContrastNeurons, FindTopNeurons, Generate, Task

_KINDS = (Generate, FindTopNeurons, ContrastNeurons)
MAX_CHARACTERS = 4_000
MAX_NEW_TOKENS = 64
"""Of a short task: all that goes in, and all that is generated, baselines among it."""


def fits_into(task: Task, longer: Task) -> bool:
    """Whether a task is short, and needs no other language model than the longer one that it interrupts."""
    if not (isinstance(task, _KINDS) and isinstance(longer, _KINDS)):
        return False
    return task.language_model == longer.language_model and is_short(task) and not is_short(longer)


def is_short(task: Task) -> bool:
    """Whether a task is done within a moment, once its language model is loaded."""
    match task:
        case FindTopNeurons():
            texts = task.prompts
        case ContrastNeurons():
            texts = [*task.texts_a, *task.texts_b]
        case Generate():
            variants = 2 if task.compare_to_baseline else 1
            if variants * len(task.prompts) * task.max_new_tokens > MAX_NEW_TOKENS:
                return False
            texts = task.chats or task.prompts
        case _:
            return False
    return sum(map(len, texts)) <= MAX_CHARACTERS
