import { expect, test } from "vitest";
import { launchKeys } from "./launchKey";

test("a launch that is tried again has its key again, another input another one", () => {
  let count = 0;
  const keyOf = launchKeys(() => `key ${++count}`);
  expect(keyOf({ layers: ["a"], limit: 3 })).toBe("key 1");
  expect(keyOf({ layers: ["a"], limit: 3 })).toBe("key 1");
  expect(keyOf({ layers: ["b"], limit: 3 })).toBe("key 2");
  expect(keyOf({ layers: ["a"], limit: 3 })).toBe("key 3");
});
