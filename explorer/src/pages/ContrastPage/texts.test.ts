import { expect, test } from "vitest";
import { effectOf, linesOf, searchOfSets, setsOf } from "./texts";

function storage(): Storage {
  const items = new Map<string, string>();
  return {
    getItem: (name: string) => items.get(name) ?? null,
    setItem: (name: string, value: string) => void items.set(name, value),
  } as Storage;
}

test("short texts are in the link itself", () => {
  const sets = { a: ["one & two", "three"], b: ["#four"] };
  const search = searchOfSets(sets, storage(), "k");
  expect(setsOf(new URLSearchParams(search.toString()), storage())).toEqual({ state: "linked", sets });
});

test("long ones stay in the tab, and are missed elsewhere", () => {
  const [here, elsewhere] = [storage(), storage()];
  const sets = { a: ["x".repeat(5_000)], b: ["y"] };
  const search = searchOfSets(sets, here, "k");
  expect(search.toString().length).toBeLessThan(100);
  expect(setsOf(search, here)).toEqual({ state: "kept", sets });
  expect(setsOf(search, elsewhere)).toEqual({ state: "lost" });
  here.setItem("contrast-k", "{");
  expect(setsOf(search, here)).toEqual({ state: "lost" });
  expect(setsOf(new URLSearchParams(), here)).toEqual({ state: "none" });
});

test("a text is a line that is not blank, and keeps its spaces", () => {
  expect(linesOf(" a\r\n\n  \nb ")).toEqual([" a", "b "]);
});

test("Cohen's d by hand", () => {
  // Means 2 and 0, sums of squares 2 and 2, pooled variance 4 / 4.
  expect(effectOf([1, 2, 3], [0, -1, 1])).toEqual({ firesA: 3, firesB: 1, countA: 3, countB: 3, d: 2 });
  expect(effectOf([1, 1], [0, 0]).d).toBeNull();
  expect(effectOf([], []).d).toBeNull();
});
