import { expect, test } from "vitest";
import { settingsOf } from "../PlayPage/settings";
import { searchToward } from "./steer";

test("to steer toward a set adds its neurons and turns off the other's", () => {
  const search = searchToward(
    [
      { index: 3, steeringRange: { typical: 4.00001 } },
      { index: 4, steeringRange: null },
    ],
    [{ index: 9, steeringRange: { typical: 1 } }],
    "My car",
  );
  expect(settingsOf(new URLSearchParams(search))).toMatchObject({
    prompt: "My car",
    edits: [
      { index: 3, multiplier: 1, bias: 4 },
      { index: 4, multiplier: 1, bias: null },
      { index: 9, multiplier: 0, bias: 0 },
    ],
  });
});
