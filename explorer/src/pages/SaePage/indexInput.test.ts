import { expect, test } from "vitest";
import { inputField } from "./indexInput";

const data = {
  __type: {
    inputFields: [
      { name: "saeId", description: "The SAE.", defaultValue: null },
      { name: "topTextsPerNeuron", description: "1 to 100.", defaultValue: "10" },
    ],
  },
};

test("a number's default and limits are those of the schema", () => {
  expect(inputField(data, "topTextsPerNeuron")).toEqual({ usual: 10, description: "1 to 100." });
});

test("without a default, or before the schema is there, there is none", () => {
  const none = { usual: null, description: undefined };
  expect(inputField(data, "saeId").usual).toBeNull();
  expect(inputField(undefined, "topTextsPerNeuron")).toEqual(none);
  expect(inputField({ __type: null }, "topTextsPerNeuron")).toEqual(none);
});
