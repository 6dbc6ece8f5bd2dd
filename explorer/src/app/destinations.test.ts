import { expect, test } from "vitest";
import {
  actionsAt,
  destinationOf,
  groupsOf,
  neuronNamed,
  placesFor,
  saeOf,
  withoutRepeats,
  withoutTwins,
} from "./destinations";

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

test("a page offers what can be done next, but not itself", () => {
  expect(actionsAt("/saes/sae_1/neurons/7")[0]).toEqual({
    href: "/saes/sae_1/play?edits=7",
    label: "Steer by neuron #7",
    kind: "This SAE",
  });
  const hrefs = actionsAt("/saes/sae_1/play").map(({ href }) => href);
  expect(hrefs).not.toContain("/saes/sae_1/play");
  expect(hrefs).toContain("/compare?sae=sae_1");
  expect(actionsAt("/jobs")).toEqual([]);
});

test("hits are grouped by kind, in the order of the best of each", () => {
  const job = (id: string) => ({ __typename: "Job" as const, id, title: id });
  const model = { __typename: "LanguageModel" as const, id: "lm_1", name: "M" };
  const groups = groupsOf([job("job_1"), model, job("job_2")]);
  expect(groups.map(({ title, destinations }) => [title, destinations.length])).toEqual([
    ["Jobs", 2],
    ["Language models", 1],
  ]);
});

test("recent places are found by title, without the page itself", () => {
  const places = [
    { href: "/jobs/1", title: "Train A" },
    { href: "/jobs/2", title: "Index B" },
  ];
  expect(placesFor("", places, "/jobs/1").map(({ href }) => href)).toEqual(["/jobs/2"]);
  expect(placesFor(" train", places, "/").map(({ href }) => href)).toEqual(["/jobs/1"]);
});

test("an address in two groups is in the first of them, and an empty group is gone", () => {
  const one = { href: "/a", label: "A", kind: "Recent" };
  expect(
    withoutRepeats([
      { title: "Recent", destinations: [one] },
      { title: "Jobs", destinations: [{ ...one, kind: "Job" }] },
    ]),
  ).toEqual([{ title: "Recent", destinations: [one] }]);
});
