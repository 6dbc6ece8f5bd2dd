import { expect, test } from "vitest";
import { filterOf, listOf } from "./neuronList";
import { firingOf, placeIn } from "./randomNeuron";

test("neurons are drawn from those of the list that fire, as far as that is known", () => {
  const list = listOf(new URLSearchParams("q=lists&minf=0.1&dead=yes"));
  expect(filterOf(firingOf(list, true))).toEqual({ search: "lists", minFrequency: 0.1, dead: false });
  expect(filterOf(firingOf(list, false))).toEqual({ search: "lists" });
});

test("each place is as likely, and none is beyond the list", () => {
  expect([0, 0.24, 0.25, 0.5, 0.999].map((drawn) => placeIn(4, drawn))).toEqual([0, 0, 1, 2, 3]);
  expect(placeIn(1, 0.99)).toBe(0);
  expect(placeIn(0, 0.5)).toBe(0);
});
