import { expect, test } from "vitest";
import type { Sink } from "./socket";
import type {
  TrainingCurvesSubscription,
  TrainingCurvesSubscriptionVariables,
} from "./TrainingCurves.generated";
import { addEvent, cursorOf, curveOf, followCurves, type TrainingPointEvent } from "./trainingCurve";

function stepped(sequence: number, step: number, loss = step / 10): TrainingPointEvent {
  const point = {
    step,
    tokenCount: step * 100,
    loss,
    explainedVariance: null,
    l0: 8,
    deadFraction: 0,
    mse: 1,
    learningRate: 1e-3,
    tokensPerSecond: 5,
  };
  return { saeId: "sae_1", sequence, truncatedAfterStep: null, point };
}

function takenBack(sequence: number, truncatedAfterStep: number): TrainingPointEvent {
  return { saeId: "sae_1", sequence, truncatedAfterStep, point: null };
}

function curve() {
  return curveOf({
    sae: { id: "sae_1" },
    sequence: 5,
    steps: [1, 2, 3],
    tokenCounts: [100, 200, 300],
    series: [
      { metric: "LOSS", values: [0.1, 0.2, 0.3] },
      { metric: "EXPLAINED_VARIANCE", values: [null, null, 0.5] },
    ],
  });
}

test("points are added to all columns", () => {
  const grown = curve();
  addEvent(grown, stepped(6, 4));
  expect(grown.steps).toEqual([1, 2, 3, 4]);
  expect(grown.tokenCounts).toEqual([100, 200, 300, 400]);
  expect(grown.values.get("LOSS")).toEqual([0.1, 0.2, 0.3, 0.4]);
  expect(grown.values.get("EXPLAINED_VARIANCE")).toEqual([null, null, 0.5, null]);
  expect(cursorOf(grown)).toEqual({ saeId: "sae_1", afterStep: 4, afterSequence: 6 });
});

test("a point that is there already changes nothing", () => {
  const same = curve();
  addEvent(same, stepped(5, 3, 9));
  expect(same.values.get("LOSS")).toEqual([0.1, 0.2, 0.3]);
  expect(same.revision).toBe(0);
});

test("after a resume the curve is whole and has none of what was taken back", () => {
  const resumed = curve();
  for (const event of [takenBack(7, 1), stepped(8, 2, 7), stepped(9, 3, 8), stepped(10, 4, 9)]) {
    addEvent(resumed, event);
  }
  expect(resumed.steps).toEqual([1, 2, 3, 4]);
  expect(resumed.values.get("LOSS")).toEqual([0.1, 7, 8, 9]);
});

test("a training that begins anew empties the curve", () => {
  const anew = curve();
  addEvent(anew, takenBack(7, 0));
  expect([anew.steps, anew.tokenCounts, anew.values.get("LOSS")]).toEqual([[], [], []]);
  expect(cursorOf(anew)).toEqual({ saeId: "sae_1", afterStep: 0, afterSequence: 7 });
});

test("a connection after a resume is asked from the newest event on", () => {
  const followed = curve();
  const asked: unknown[] = [];
  let connect = (_: TrainingPointEvent[]) => {};
  const changes: number[] = [];
  followCurves(
    (variables: () => TrainingCurvesSubscriptionVariables, sink: Sink<TrainingCurvesSubscription>) => {
      connect = (events) => {
        asked.push(variables().saes);
        for (const trainingPoints of events) sink.next({ trainingPoints });
      };
      connect([takenBack(7, 2)]);
      return () => {};
    },
    [followed],
    ({ revision }) => changes.push(revision),
  );
  connect([stepped(8, 3), { ...stepped(9, 4), saeId: "sae_2" }]);
  connect([]);
  expect(asked).toEqual([
    [{ saeId: "sae_1", afterStep: 3, afterSequence: 5 }],
    [{ saeId: "sae_1", afterStep: 2, afterSequence: 7 }],
    [{ saeId: "sae_1", afterStep: 3, afterSequence: 8 }],
  ]);
  expect(changes).toEqual([1, 2]);
});
