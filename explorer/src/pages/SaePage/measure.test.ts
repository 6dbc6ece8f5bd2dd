import { expect, test } from "vitest";
import { datasetOf, heldOut, isChosen } from "./measure";

const run = (dataset: { kind: string; description: string; storedDataset: { id: string } | null }) =>
  ({ id: "run_1", name: "run", sampleCount: 900, dataset }) as Parameters<typeof heldOut>[0];

test("texts behind those of the run are proposed, where its dataset can be named", () => {
  const stored = heldOut(run({ kind: "STORED", description: "wiki", storedDataset: { id: "dataset_1" } }));
  expect(datasetOf(stored.choice)).toEqual({ datasetId: "dataset_1" });
  expect(stored.offset).toBe(900);
  const hub = heldOut(run({ kind: "HUGGING_FACE", description: "owner/name", storedDataset: null }));
  expect(datasetOf(hub.choice).huggingFace?.repository).toBe("owner/name");
  expect(heldOut(run({ kind: "INLINE", description: "3 texts", storedDataset: null })).offset).toBe(0);
  expect(datasetOf(heldOut(null).choice)).toEqual({ builtIn: "PYTHON_REFERENCE" });
});

test("only what has been said can be measured on", () => {
  const { choice } = heldOut(null);
  expect(isChosen(choice)).toBe(true);
  expect(isChosen({ ...choice, kind: "STORED" })).toBe(false);
  expect(isChosen({ ...choice, kind: "TEXTS", texts: " \n" })).toBe(false);
  expect(datasetOf({ ...choice, kind: "TEXTS", texts: "one\n\n two \n" })).toEqual({
    texts: ["one", " two "],
  });
});
