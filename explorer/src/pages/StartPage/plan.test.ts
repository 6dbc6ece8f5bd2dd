import { expect, test } from "vitest";
import { type Plan, paramsOf, planOf, shares } from "./plan";

function throughAddress(plan: Plan): Plan {
  return planOf(new URLSearchParams(new URLSearchParams(paramsOf(plan)).toString()));
}

test("an address without anything begins with the model", () => {
  expect(planOf(new URLSearchParams())).toMatchObject({ step: "model", data: { kind: "builtIn" }, k: 32 });
});

test("a plan comes back from its address, at its step", () => {
  const plan: Plan = {
    ...planOf(new URLSearchParams()),
    model: "lm_1",
    step: "training",
    layer: "m_layers_0",
    data: { kind: "stored", id: "dataset_1" },
    texts: 12,
    heldOut: 0,
    latents: 64,
    k: 4,
    epochs: 2,
  };
  expect(throughAddress(plan)).toEqual(plan);
  const launched: Plan = { ...plan, step: "progress", capture: "job_1", train: "job_2" };
  expect(planOf(new URLSearchParams(paramsOf({ ...plan, capture: "job_1" }))).step).toBe("progress");
  expect(throughAddress(launched)).toEqual(launched);
});

test("numbers in an address that are none are the defaults", () => {
  expect(planOf(new URLSearchParams("k=-1&epochs=x&texts=1.5"))).toMatchObject({
    k: 32,
    epochs: 8,
    texts: 900,
  });
});

test("some texts are held out to measure on, where there are enough", () => {
  expect(shares(5000)).toEqual({ texts: 900, heldOut: 64 });
  expect(shares(100)).toEqual({ texts: 90, heldOut: 10 });
  expect(shares(5)).toEqual({ texts: 5, heldOut: 0 });
  expect(shares(null)).toEqual({ texts: 900, heldOut: 64 });
});
