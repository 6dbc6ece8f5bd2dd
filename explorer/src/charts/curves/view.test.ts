import { expect, test } from "vitest";
import { PLAIN_VIEW, type View, viewOf, withView } from "./view";

test("a view is the same after a trip through the address, which keeps the rest", () => {
  const view: View = {
    metrics: ["LOSS", "LEARNING_RATE"],
    x: "tokens",
    smoothing: 0.6,
    logX: true,
    logY: true,
    range: [0.5, 1200],
    hidden: ["sae_2", "sae_3"],
  };
  const search = withView(new URLSearchParams("sae=sae_1&sae=sae_2&hide=old"), view);
  expect(viewOf(search)).toEqual(view);
  expect(search.getAll("sae")).toEqual(["sae_1", "sae_2"]);
});

test("the plain view needs no word in the address", () => {
  expect(withView(new URLSearchParams("smooth=0.5&sae=a"), PLAIN_VIEW).toString()).toBe("sae=a");
  expect(viewOf(new URLSearchParams())).toEqual(PLAIN_VIEW);
});

test("an address that makes no sense is as if it were not there", () => {
  const nonsense = new URLSearchParams("metric=PRICE&x=weight&smooth=-3&range=9~2");
  expect(viewOf(nonsense)).toEqual(PLAIN_VIEW);
  expect(viewOf(new URLSearchParams("smooth=7&range=1")).smoothing).toBe(0.99);
  expect(viewOf(new URLSearchParams("smooth=many&range=a~b"))).toEqual(PLAIN_VIEW);
});
