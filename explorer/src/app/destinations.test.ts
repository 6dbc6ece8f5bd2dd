import { expect, test } from "vitest";
import { destinationOf, neuronNamed, saeOf, withoutTwins } from "./destinations";

test("#1234 is a neuron of the SAE that is looked at, and nothing elsewhere", () => {
  expect(neuronNamed(" #1234 ", "/saes/sae_1/play?x=1")?.href).toBe("/saes/sae_1/neurons/1234");
  expect(neuronNamed("#0012", "/saes/sae_1")?.href).toBe("/saes/sae_1/neurons/12");
  expect(neuronNamed("#1234", "/jobs/job_1")).toBeNull();
  expect(neuronNamed("1234", "/saes/sae_1")).toBeNull();
});

test("the SAE is known on each of its pages", () => {
  expect(saeOf("/saes/sae_1")).toBe("sae_1");
  expect(saeOf("/saes/sae_1/neurons/7")).toBe("sae_1");
  expect(saeOf("/server")).toBeNull();
});

test("a hit leads to its page", () => {
  const neuron = {
    __typename: "Neuron" as const,
    id: "n",
    index: 7,
    concept: null,
    sae: { id: "sae_1", name: "S" },
  };
  expect(destinationOf(neuron)).toEqual({
    href: "/saes/sae_1/neurons/7",
    label: "#7 no name",
    kind: "Neuron of S",
  });
});

test("an address that is found twice is shown once", () => {
  const [one, two] = [
    { href: "/saes/a/neurons/1", label: "#1", kind: "Neuron of this SAE" },
    { href: "/saes/a/neurons/2", label: "#2", kind: "Neuron of A" },
  ] as const;
  expect(withoutTwins([one, two, { ...one, kind: "Neuron of A" }])).toEqual([one, two]);
});
