import { expect, test } from "vitest";
import { numbersOf, trainingsOf } from "./sweep";

test("lists of whole numbers are read however they are separated, each number once", () => {
  expect(numbersOf("16, 32;64 16")).toEqual([16, 32, 64]);
  expect(numbersOf(" ")).toEqual([]);
  expect(numbersOf("16, k")).toBeNull();
  expect(numbersOf("1.5")).toBeNull();
});

test("each size is trained with each k, under names of their own", () => {
  const all = trainingsOf({ activationRunId: "run_1", name: "mine" }, [64, 128], [4, 8]);
  expect(all.map(({ latentCount, k, name }) => [latentCount, k, name])).toEqual([
    [64, 4, "mine, 64, k 4"],
    [64, 8, "mine, 64, k 8"],
    [128, 4, "mine, 128, k 4"],
    [128, 8, "mine, 128, k 8"],
  ]);
});

test("what is not given is left to the server", () => {
  expect(trainingsOf({ activationRunId: "run_1", name: "mine" }, [], [])).toEqual([
    { activationRunId: "run_1", name: "mine", latentCount: null, k: null },
  ]);
  expect(trainingsOf({ activationRunId: "run_1", name: null }, [], [4, 8]).map(({ name }) => name)).toEqual([
    null,
    null,
  ]);
});
