import { expect, test } from "vitest";
import {
  ASKED,
  activationsOn,
  afterEnd,
  afterEvent,
  afterStop,
  divergence,
  isUnderWay,
  type RunState,
  textBefore,
} from "./generationRun";

type Event = Parameters<typeof afterEvent>[1];

function token(variant: "BASELINE" | "STEERED", index: number, text: string, watched: number[]): Event {
  return {
    __typename: "GenerationToken",
    promptIndex: 0,
    variant,
    token: { index, tokenId: text.length, text, logProbability: -1, watched, alternatives: [] },
  };
}

const STARTED: Event = {
  __typename: "GenerationStarted",
  seed: 7,
  promptTokens: [
    [
      { text: "One", label: "One", special: false },
      { text: " two", label: " two", special: false },
    ],
  ],
};

function runOf(...events: Event[]): RunState {
  return events.reduce(afterEvent, ASKED);
}

test("both texts grow together, and the run ends with its subscription", () => {
  const run = runOf(
    { __typename: "GenerationQueued", position: 2, loading: true },
    STARTED,
    token("BASELINE", 0, "a", [1]),
    token("STEERED", 0, "bb", [2]),
    token("BASELINE", 1, "c", [3]),
  );
  expect(run).toMatchObject({ status: "generating", position: 2, loading: true, seed: 7 });
  expect(run.outputs.BASELINE?.tokens.map(({ text }) => text)).toEqual(["a", "c"]);
  expect(run.outputs.STEERED?.tokens.map(({ text }) => text)).toEqual(["bb"]);
  expect(isUnderWay(run)).toBe(true);
  expect(afterEnd(run).status).toBe("finished");
  expect(afterStop(run).status).toBe("stopped");
  expect(afterStop(afterEnd(run)).status).toBe("finished");
  // Ending a subscription from here completes it, too.
  expect(afterEnd(afterStop(run)).status).toBe("stopped");
});

test("a token's own activation comes with the next one, and the last one's with the whole", () => {
  const run = runOf(
    STARTED,
    token("BASELINE", 0, "a", [0, 10]),
    token("BASELINE", 1, "b", [0, 20]),
    token("BASELINE", 2, "c", [0, 30]),
  );
  expect(activationsOn(run, "BASELINE", 1)).toEqual([20, 30]);
  const finished = afterEvent(run, {
    __typename: "GenerationFinished",
    output: {
      promptIndex: 0,
      variant: "BASELINE",
      text: "abc",
      finishReason: "LENGTH",
      watched: [
        [0, 5],
        [0, 10],
        [0, 20],
        [0, 30],
        [0, 40],
      ],
      topNeurons: [],
    },
  });
  expect(activationsOn(finished, "BASELINE", 1)).toEqual([20, 30, 40]);
  expect(activationsOn(finished, "STEERED", 1)).toEqual([]);
});

test("a refusal after the start keeps what has been written", () => {
  const run = runOf(STARTED, token("BASELINE", 0, "a", []), {
    __typename: "QueueFull",
    code: "QUEUE_FULL",
    message: "No room.",
    retryAfterSeconds: 3,
  });
  expect(run).toMatchObject({ status: "failed", problem: { message: "No room.", retryAfter: 3 } });
  expect(run.outputs.BASELINE?.tokens).toHaveLength(1);
  expect(afterEnd(run).status).toBe("failed");
});

test("outputs differ from their first unlike token on, or where one ends before the other", () => {
  const same = runOf(STARTED, token("BASELINE", 0, "a", []), token("STEERED", 0, "a", [])).outputs;
  expect(divergence(same.BASELINE, same.STEERED)).toBeNull();
  const unlike = runOf(
    ...[token("BASELINE", 0, "a", []), token("STEERED", 0, "a", [])],
    ...[token("BASELINE", 1, "b", []), token("STEERED", 1, "bb", [])],
  ).outputs;
  expect(divergence(unlike.BASELINE, unlike.STEERED)).toBe(1);
  const longer = { ...unlike.BASELINE, finishReason: "LENGTH" } as never;
  const ended = { ...same.STEERED, finishReason: "END_OF_TEXT" } as never;
  expect(divergence(longer, ended)).toBe(1);
});

test("what a token follows is the prompt and the tokens before it", () => {
  const { BASELINE } = runOf(token("BASELINE", 0, " a", []), token("BASELINE", 1, " b", [])).outputs;
  expect(BASELINE && textBefore("p", BASELINE, 1)).toBe("p a");
});
