import { expect, test } from "vitest";
import {
  addressOf,
  figuresFit,
  filterOf,
  indicesIn,
  listOf,
  withList,
  withoutFigures,
  wordFilterOf,
} from "./neuronList";

const FULL =
  "order=FREQUENCY_DESC&q=python+list&in=TOP_TEXTS&dead=no&named=yes&source=MANUAL&minf=0.001&maxf=0.1&mina=2&maxa=30&ids=3+5";

test("an address goes to a list and back", () => {
  expect(addressOf(listOf(new URLSearchParams(FULL))).toString()).toBe(FULL);
  expect(addressOf(listOf(new URLSearchParams())).toString()).toBe("");
});

test("what is mistyped in an address asks nothing", () => {
  const list = listOf(new URLSearchParams("order=BEST&dead=perhaps&minf=abc&maxf=&source=NOBODY&ids=none"));
  expect(list.order).toBe("INDEX");
  expect(filterOf(list)).toBeNull();
});

test("a filter asks only what is given", () => {
  expect(filterOf(listOf(new URLSearchParams("q=+a+&in=NOTE&dead=no&minf=0&ids=7,8,7")))).toEqual({
    search: "a",
    searchIn: ["NOTE"],
    dead: false,
    minFrequency: 0,
    indices: [7, 8],
  });
  // Fields to search in are an error without words.
  expect(filterOf(listOf(new URLSearchParams("in=NOTE&q=+")))).toBeNull();
});

test("another list forgets the place, and leaves the rest of the address", () => {
  const before = new URLSearchParams("q=old&row=900&color=search");
  const after = withList(before, listOf(new URLSearchParams("q=new")));
  expect(after.toString()).toBe("color=search&q=new");
});

test("numbers are found however they are separated", () => {
  expect(indicesIn("#12, 40;7\n12")).toEqual([12, 40, 7]);
  expect(indicesIn("nothing")).toBeNull();
});

test("figures are compared here, words by the server", () => {
  const list = listOf(new URLSearchParams("q=a&dead=no&minf=0.1&maxa=5"));
  expect(wordFilterOf(list)).toEqual({ search: "a" });
  expect(figuresFit(list, 0.1, 5)).toBe(true);
  expect(figuresFit(list, 0.09, 5)).toBe(false);
  expect(figuresFit(list, 0.2, 5.1)).toBe(false);
  expect(figuresFit(listOf(new URLSearchParams("dead=yes")), 0.2, 5)).toBe(false);
});

test("without an index a list asks nothing that only one could tell", () => {
  const list = withoutFigures(listOf(new URLSearchParams(FULL)));
  expect(addressOf(list).toString()).toBe("q=python+list&named=yes&source=MANUAL&ids=3+5");
  expect(withoutFigures(listOf(new URLSearchParams("order=CONCEPT_NAME&in=NOTE"))).order).toBe(
    "CONCEPT_NAME",
  );
});
