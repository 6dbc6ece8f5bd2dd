import { expect, test } from "vitest";
import { type SaeRow, sorted, sortOf } from "./saeRows";

const sae = (name: string, l0: number | null) =>
  ({ name, layer: name, evaluation: l0 === null ? null : { l0, explainedVariance: null } }) as SaeRow;
const ROWS = [sae("block 10", 3), sae("block 9", null), sae("block 1", 20)];
const names = (sort: string | null) => sorted(ROWS, sortOf(sort)).map(({ name }) => name);

test("SAEs that nobody has measured come last, whichever way they are sorted", () => {
  expect(names("l0")).toEqual(["block 10", "block 1", "block 9"]);
  expect(names("-l0")).toEqual(["block 1", "block 10", "block 9"]);
});

test("numbers in names go by their size, and without a sort rows stay as they are", () => {
  expect(names("name")).toEqual(["block 1", "block 9", "block 10"]);
  expect(names("-layer")).toEqual(["block 10", "block 9", "block 1"]);
  expect(names(null)).toEqual(["block 10", "block 9", "block 1"]);
  expect(sortOf("toString")).toBeNull();
});
