import { expect, test } from "vitest";
import { factsOf } from "./provenance";

test("each value has its path, and what is not known or empty has no line", () => {
  const record = {
    __typename: "SaeProvenance",
    checkpointSha256: "ab12",
    training: { shuffleSeed: 0, config: { excludeOutliers: null, clip: false } },
    layers: ["one", "two"],
    sourceFiles: [],
    versions: [{ __typename: "PackageVersion", name: "torch", version: "2.9" }],
  };
  expect(factsOf(record)).toEqual([
    ["checkpoint SHA-256", "ab12"],
    ["training › shuffle seed", "0"],
    ["training › config › clip", "false"],
    ["layers", "one, two"],
    ["versions › torch", "2.9"],
  ]);
  expect(factsOf(null)).toEqual([]);
});
