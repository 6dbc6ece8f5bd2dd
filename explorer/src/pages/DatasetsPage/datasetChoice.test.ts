import { describe, expect, test } from "vitest";
import { type DatasetChoice, decode, encode, inputOf, isComplete, NEW_HUB } from "./datasetChoice";

const CHOICES: DatasetChoice[] = [
  { kind: "builtIn" },
  { kind: "stored", id: "dataset_01ARZ3NDEKTSV4RRFFQ69G5FAV" },
  { kind: "hub", repository: "a/b&c=d", config: "", split: "test", textField: "meta.text" },
  { kind: "file", path: "/data/my texts:1.csv", textField: "text" },
];

describe("a choice of texts", () => {
  test.each(CHOICES)("comes back from an address: $kind", (choice) => {
    const address = new URLSearchParams({ data: encode(choice) }).toString();
    expect(decode(new URLSearchParams(address).get("data"))).toEqual(choice);
  });

  test("is the built-in texts where an address says nothing of use", () => {
    expect(decode(null)).toEqual({ kind: "builtIn" });
    expect(decode("ftp:x")).toEqual({ kind: "builtIn" });
  });

  test("leaves out a configuration that is empty, which the Hub would look for", () => {
    expect(inputOf({ ...NEW_HUB, repository: " a/b " })).toEqual({
      huggingFace: { repository: "a/b", config: null, split: "train", textField: "text" },
    });
  });

  test("is not complete without a repository", () => {
    expect(isComplete(NEW_HUB)).toBe(false);
  });
});
