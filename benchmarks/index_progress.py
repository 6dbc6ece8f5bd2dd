"""How long an index says nothing of its progress.

``python -m benchmarks.index_progress``: a server of its own with SmolLM2-135M-Instruct, the Python reference
captured at block 9, an SAE of 65,536 neurons trained on a few texts of it. A client follows the job of its
index over server-sent events; each silence counts from the event before it, the first from the launch.
"""

import http.client
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from benchmarks import rows
from benchmarks.rows import Row
from benchmarks.served import ANSWER_SECONDS, Served, served
from gql_server.tour.steps import model_file

BLOCK = 9
GOAL_SECONDS = 5.0
PRECISION = "float32"
EVENTS = """subscription($id: ID!) { jobProgress(id: $id) { __typename
  ... on JobProgressed { progress { completed total stage { name fraction } } }
  ... on JobLogged { message } } }"""
INDEXED_TEXTS, TRAINING_TEXTS = 929, 40
K = 32


def events(server: Served, job: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """Give a job's events to its end, each with the time at which it came."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    body = json.dumps({"query": EVENTS, "variables": {"id": job}})
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    connection.request("POST", "/graphql", body, headers)
    for line in connection.getresponse():
        if line.startswith(b"data:") and line[5:].strip():
            yield time.perf_counter(), json.loads(line[5:])["data"]["jobProgress"]
    connection.close()


def index_input(server: Served, n_latents: int) -> dict[str, Any]:
    """Return what is to be indexed: an SAE of a short training, over a longer run."""
    client = server.client
    model = client.language_model(model_file())

    def run(n_texts: int) -> str:
        capture = {
            "languageModelId": model,
            "layers": [client.block(model, BLOCK)],
            "dataset": {"builtIn": "PYTHON_REFERENCE"},
            "sampleLimit": n_texts,
        }
        return client.finish(client.launch("captureActivations", capture))

    training = {"activationRunId": run(TRAINING_TEXTS), "latentCount": n_latents, "k": K}
    sae = client.finish(client.launch("trainSae", training | {"indexNeurons": False}))
    return {"saeId": sae, "activationRunId": run(INDEXED_TEXTS)}


def measure(server: Served, n_latents: int) -> Row:
    """Follow an index."""
    given = index_input(server, n_latents)
    began = time.perf_counter()
    job = server.client.launch("indexNeurons", given)
    times, told = [began], ["launched"]
    for at, event in events(server, job):
        stage = event.get("progress", {}).get("stage") or {}
        times.append(at)
        told.append(stage.get("name") or event.get("message") or event["__typename"])
    server.client.job(job)
    silences = sorted(
        ((later - earlier, after) for (earlier, later), after in zip(pairwise(times), told, strict=False)),
        reverse=True,
    )
    for silence, after in silences[:8]:
        print(f"{silence:6.2f} s after {after!r}")
    longest, after = silences[0]
    return Row(
        what=f"longest silence of an index of {n_latents:,} neurons",
        ours=f"{longest:.1f} s, after {after!r}",
        measured=f"{len(times) - 1} events in {times[-1] - began:.0f} s",
        goal=f"≤ {GOAL_SECONDS:g} s",
        reached=longest <= GOAL_SECONDS,
        precision=PRECISION,
    )


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--neurons", type=int, default=65_536)
    given = parser.parse_args()
    with served(MODEL_DIRS=str(model_file().parent)) as server:
        rows.hand_over([measure(server, given.neurons)], given)


if __name__ == "__main__":
    main()
