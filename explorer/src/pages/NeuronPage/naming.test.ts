import { expect, test } from "vitest";
import { draftOf, isChanged, isNewer, lastVersion, type Named, undoOf } from "./naming";

function named(...names: (string | null)[]): Named {
  const conceptHistory = names.map((name, place) => ({
    version: names.length - place,
    name,
    score: null,
    note: null,
    source: "MANUAL" as const,
    at: "2026-01-01T00:00:00Z",
  }));
  const [now] = conceptHistory;
  const concept = now?.name
    ? {
        id: "concept_1",
        name: now.name,
        source: now.source,
        version: now.version,
        score: null,
        note: null,
        updatedAt: now.at,
      }
    : null;
  return { id: "neuron_1", index: 1, concept, conceptHistory };
}

test("undo goes back to the name before, or to none", () => {
  expect(undoOf(named())).toBeNull();
  expect(undoOf(named("a"))).toEqual({ name: null, version: null });
  expect(undoOf(named("b", "a"))).toEqual({ name: "a", version: 1 });
  expect(undoOf(named("b", null, "a"))).toEqual({ name: null, version: null });
});

test("a deleted name comes back by undo", () => {
  expect(undoOf(named(null, "a"))).toEqual({ name: "a", version: 1 });
});

test("a change is made from the last version, also where that is a deletion", () => {
  expect(lastVersion(named())).toBeNull();
  expect(lastVersion(named("b", "a"))).toBe(2);
  expect(lastVersion(named(null, "a"))).toBe(2);
});

test("a draft is changed by what would be saved, not by blanks around the name", () => {
  const neuron = named("a");
  expect(isChanged({ ...draftOf(neuron), name: " a " }, neuron)).toBe(false);
  expect(isChanged({ ...draftOf(neuron), note: "why" }, neuron)).toBe(true);
  expect(isChanged({ ...draftOf(neuron), score: 0 }, neuron)).toBe(true);
});

test("what a page shows from before one's own change is not news", () => {
  expect(isNewer(named("b", "a"), named("a"))).toBe(true);
  expect(isNewer(named(null, "a"), named("a"))).toBe(true);
  expect(isNewer(named(), named("a"))).toBe(false);
  expect(isNewer(named("a"), named("a"))).toBe(false);
});
