import { expect, test } from "vitest";
import { pagesOf } from "./pages";

test("rows are on the pages between the first one's and the last one's", () => {
  expect(pagesOf(0, 30, 65_536)).toEqual([0]);
  expect(pagesOf(59, 60, 65_536)).toEqual([0, 1]);
  expect(pagesOf(65_500, 65_535, 65_536)).toEqual([1091, 1092]);
});

test("a list that has become shorter is asked for where it still is", () => {
  expect(pagesOf(6_000, 6_030, 61)).toEqual([1]);
  expect(pagesOf(0, 0, 0)).toEqual([0]);
});
