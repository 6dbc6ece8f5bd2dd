import { expect, test } from "vitest";
import { nameFor, newPaths } from "./modelSources";

const KNOWN = [{ id: "lm_1", name: "tiny", source: "/models/tiny" }];

test("paths of models that are there already are left out, and the bundled model comes first", () => {
  const paths = ["/models/a", "/models/tiny", "/models/SmolLM2-135M.gguf"];
  expect(newPaths(paths, KNOWN)).toEqual(["/models/SmolLM2-135M.gguf", "/models/a"]);
});

test("a model is called as its file, or its repository, with a number where that is taken", () => {
  expect(nameFor("/models/SmolLM2.Q8_0.gguf", KNOWN)).toBe("SmolLM2.Q8_0");
  expect(nameFor("owner/gpt2", KNOWN)).toBe("gpt2");
  expect(nameFor("/other/tiny/", KNOWN)).toBe("tiny 2");
});
