"""Many clients that generate at once, and baseline beside steered text.

``python -m benchmarks.many_clients``: a server of its own with SmolLM2-135M-Instruct and an SAE on block 9.
Each client follows a subscription over server-sent events, steered by an edit of its own, and has five
neurons told of each token. One client alone and all of them at once alternate, round by round; meanwhile one
more client asks for the top neurons of a short prompt.
"""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.rows import Row, Spread, at_least
from benchmarks.served import ANSWER_SECONDS, Client, Served, served
from gql_server.tour.steps import model_file

BLOCK = 9
N_LATENTS, K = 4096, 32
TEXTS = 30
"""Of the Python reference, for the SAE, which need not be a good one."""
PRECISION = "float32"
GOAL = 3.0
FIRST_TOKEN_SECONDS = 1.0
TOKEN_TIMES = 2.0
PROMPTS = (
    "The history of the city begins with a small harbor, and",
    "To sort a list of numbers in Python, you can",
    "My grandmother always told me that the secret of good bread is",
    "In the middle of the night the phone rang, and a voice said",
    "The three most important inventions of the last century are",
    "Dear editor, I am writing to you because",
    "When water freezes, its molecules",
    "The old lighthouse keeper looked out at the sea and",
)
GENERATION = """subscription($input: GenerateInput!) { generation(input: $input) {
  __typename
  ... on GenerationToken { variant token { text topNeurons { activation neuron { index } } } }
  ... on GenerationFinished { output { text } }
  ... on Error { message } } }"""
TOP_NEURONS = """query($sae: ID!) { topNeurons(saeId: $sae, prompts: ["A short text to look at."], first: 5) {
  __typename ... on TopNeurons { prompts { neurons { activation } } } } }"""


@dataclass
class Generated:
    """What a client has got, and when."""

    began: float
    tokens: list[tuple[float, str]] = field(default_factory=list)
    """Time and variant."""
    text: str = ""

    @property
    def first(self) -> float:
        """Seconds until the first token."""
        return self.tokens[0][0] - self.began

    @property
    def seconds(self) -> float:
        return self.tokens[-1][0] - self.began

    def intervals(self, of: str | None = None) -> list[float]:
        """Return the seconds between tokens, of one variant or of all."""
        times = [at for at, variant in self.tokens if of in (None, variant)]
        return [later - earlier for earlier, later in pairwise(times)]


def generate(port: int, given: dict[str, Any]) -> Generated:
    """Follow a generation to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    generated = Generated(time.perf_counter())
    body = json.dumps({"query": GENERATION, "variables": {"input": given}})
    connection.request("POST", "/graphql", body, headers)
    for line in connection.getresponse():
        if not line.startswith(b"data:") or not line[5:].strip():
            continue
        event = json.loads(line[5:])["data"]["generation"]
        if event["__typename"] == "GenerationToken":
            generated.tokens.append((time.perf_counter(), event["variant"]))
        elif event["__typename"] == "GenerationFinished":
            generated.text = event["output"]["text"]
        elif "message" in event:
            raise RuntimeError(event["message"])
    connection.close()
    return generated


@dataclass
class Found:
    """All that was measured."""

    alone: list[Generated] = field(default_factory=list)
    together: list[list[Generated]] = field(default_factory=list)
    looks_alone: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    """Seconds of top-neuron queries while all generate."""
    compared: list[Generated] = field(default_factory=list)


def trained_sae(client: Client, model: Path, block: int = BLOCK, n_latents: int = N_LATENTS) -> str:
    """Load a language model, train an SAE on a block, and return its ID."""
    language_model = client.language_model(model)
    capture = {
        "languageModelId": language_model,
        "layers": [client.block(language_model, block)],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": TEXTS,
    }
    run = client.finish(client.launch("captureActivations", capture))
    training = {"activationRunId": run, "latentCount": n_latents, "k": K, "indexNeurons": False}
    return client.finish(client.launch("trainSae", training))


class Many:
    """The clients of a server."""

    def __init__(self, server: Served, n_clients: int, n_tokens: int) -> None:
        self._server = server
        self._n_clients = n_clients
        self._sae = trained_sae(server.client, model_file())
        self._given = {"saeId": self._sae, "maxNewTokens": n_tokens, "topNeurons": 5}

    def given(self, number: int, **more: Any) -> dict[str, Any]:
        """Return what a client asks for: a prompt and an edit of its own."""
        edits = [{"neuronIndex": 10 + number, "multiplier": 1, "bias": 2 + 0.5 * number}]
        prompts = [PROMPTS[number % len(PROMPTS)]]
        return self._given | {"prompts": prompts, "steering": {"source": {"edits": edits}}} | more

    def one(self, number: int, **more: Any) -> Generated:
        return generate(self._server.port, self.given(number, **more))

    def all(self) -> tuple[list[Generated], list[float]]:
        """Have all generate at once; also returns how long top-neuron queries took meanwhile."""
        found: dict[int, Generated] = {}

        def run(number: int) -> None:
            found[number] = self.one(number)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(self._n_clients)]
        for thread in threads:
            thread.start()
        looks: list[float] = []
        time.sleep(1.0)  # All of them generate then.
        while any(thread.is_alive() for thread in threads):
            looks.append(self.look())
            time.sleep(0.3)
        for thread in threads:
            thread.join()
        return [found[number] for number in range(self._n_clients)], looks

    def look(self) -> float:
        client = self._server.client
        client.ask(TOP_NEURONS, sae=self._sae)
        return client.milliseconds / 1000


def measure(many: Many, n_clients: int, rounds: int) -> Found:
    found = Found()
    many.one(0)
    many.all()  # That was to warm up.
    for number in range(rounds):
        found.alone.append(many.one(number % n_clients))
        found.looks_alone.append(many.look())
        together, looks = many.all()
        found.together.append(together)
        found.looks += looks
        # Another prompt each time, whose baseline is not there yet.
        prompts = [f"Number {number} of the stories is about"]
        found.compared.append(many.one(number, compareToBaseline=True, prompts=prompts))
    return found


def different_texts(found: Found, alone: Sequence[Generated]) -> int:
    """Return how many clients' texts were not the ones generated alone, over all rounds."""
    return sum(
        one.text != other.text
        for together in found.together
        for one, other in zip(together, alone, strict=True)
    )


def lines(found: Found, alone: Sequence[Generated]) -> Iterator[Row]:
    n_clients, n_tokens = len(alone), len(alone[0].tokens)
    what = f"{n_clients} clients, {n_tokens} steered tokens each"
    rates = [sum(len(one.tokens) for one in all) / max(one.seconds for one in all) for all in found.together]
    yield at_least(
        f"tokens of all, {what}",
        Spread.of(rates),
        "one client alone",
        Spread.of([len(one.tokens) / one.seconds for one in found.alone]),
        GOAL,
        "tokens/s",
        PRECISION,
    )
    passes = sum(one.first for one in alone)
    firsts = Spread.of([max(one.first for one in all) for all in found.together])
    yield Row(
        what=f"last client's first token, {what}",
        ours=firsts.show("s", ".2f"),
        against="the first tokens of all alone, added up",
        theirs=f"{passes:.2f} s",
        measured=f"{firsts.median - passes:+.2f} s",
        goal=f"≤ {FIRST_TOKEN_SECONDS:+g} s",
        reached=firsts.median <= passes + FIRST_TOKEN_SECONDS,
        precision=PRECISION,
    )
    token = statistics.median(gap for all in found.together for one in all for gap in one.intervals())
    looks = Spread.of(found.looks)
    yield Row(
        what=f"top neurons of one more client, {what}",
        ours=looks.show("s", ".2f"),
        against="time between two tokens of each",
        theirs=f"{token:.3f} s; a query alone {statistics.median(found.looks_alone):.3f} s",
        measured=f"{looks.median / token:.2f} ×",
        goal=f"≤ {TOKEN_TIMES:g} ×",
        reached=looks.median <= TOKEN_TIMES * token,
        precision=PRECISION,
    )
    different = different_texts(found, alone)
    yield Row(
        what=f"texts that differ from those generated alone, {what}",
        ours=f"{different} of {sum(map(len, found.together))}",
        measured=str(different),
        goal="0",
        reached=different == 0,
        precision=PRECISION,
    )
    yield _compared(found.compared)


def _compared(generated: Sequence[Generated]) -> Row:
    delays, tokens = [], []
    for one in generated:
        first = {variant: min(at for at, name in one.tokens if name == variant) for _, variant in one.tokens}
        delays.append(first["STEERED"] - first["BASELINE"])
        tokens.append(statistics.median(one.intervals("STEERED")))
    delay, token = Spread.of(delays), Spread.of(tokens)
    return Row(
        what="first steered token after the first baseline token",
        ours=delay.show("s", ".3f"),
        against="time of a token",
        theirs=token.show("s", ".3f"),
        measured=f"{delay.median / token.median:.2f} ×",
        goal="≤ 1 ×",
        reached=delay.median <= token.median,
        precision=PRECISION,
    )


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with served(MODEL_DIRS=str(model_file().parent)) as server:
        many = Many(server, given.clients, given.tokens)
        found = measure(many, given.clients, given.rounds)
        alone = [many.one(number) for number in range(given.clients)]
    load = Path("/proc/loadavg").read_text().split()[0]
    print(f"load average at the end: {load}")
    rows.hand_over(list(lines(found, alone)), given)


if __name__ == "__main__":
    main()
