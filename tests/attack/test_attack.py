"""A few of the attacks, made small: each is refused, and the server answers everybody else meanwhile."""

from pathlib import Path

from tests.attack import harness
from tests.attack.attack import ATTACKS, SHORT
from tests.attack.bystander import PATIENCE_SECONDS

REFUSED = {
    "Parquet of 5 kB, 10 GB of texts": "more than 1073741824 bytes",
    "the same, one text wanted": "done",
    "a gzip of zeros": "InvalidInput",
    "a pipe for a language model": "not a GGUF file",
    "a pipe for a dataset": "no such file",
    "a file that turns into a link and back": "",
    "bodies a byte at a time to the sign-in page": "are still open",
    "compressed messages without end, before connection_init": "0 of 150 are still open",
    "requests that are no HTTP": "",
    "4 MB of brackets": "413",
    "thirty imports of one variable of 4 MB": "TOO_COMPLEX: The query's cost is",
    "a value of 4 MB in thirty errors": "INVALID_INPUT",
    "a revision that is a path": "A revision is",
    "guesses of the token by the hundred at once": "401 late",
    "a prompt that makes the tokenizers library panic": "gives up (PanicException)",
    "a file of top texts for sixty prompts": "The top texts could take",
    "the artifact directory, moved away and back": "503; 0 of",
}
"""By the attack's name, what it is told or comes to."""


async def test_attacks_are_refused_and_keep_nobody_else_out(tmp_path: Path) -> None:
    chosen = [attack for attack in ATTACKS if attack.name in REFUSED]
    assert len(chosen) == len(REFUSED)
    outcomes = await harness.run(chosen, SHORT, tmp_path, lambda *_: None, quiet_seconds=0)
    for outcome in outcomes:
        name, measures = outcome.attack.name, outcome.measures
        assert REFUSED[name] in outcome.told, name
        assert measures.waits and measures.worst < 1000 * PATIENCE_SECONDS, f"{name}: an answer did not come"
        assert measures.memory < harness.MAX_MEMORY, name
        assert measures.left < harness.MAX_LEFT and measures.log < harness.MAX_LOG, name
