import { expect, test } from "vitest";
import { curveOf } from "../../api/trainingCurve";
import { curvesCsv } from "./csv";

test("every point of every curve is a line, and what is not known is left empty", () => {
  const one = curveOf({
    sae: { id: "sae_1" },
    sequence: 1,
    steps: [1, 2],
    tokenCounts: [64, 128],
    series: [
      { metric: "LOSS", values: [0.5, 0.25] },
      { metric: "EXPLAINED_VARIANCE", values: [null, -0.5] },
    ],
  });
  const none = curveOf({ sae: { id: "sae_2" }, sequence: 0, steps: [], tokenCounts: [], series: [] });
  expect(curvesCsv([one, none], new Map([["sae_1", 'the "best", so far']]))).toBe(
    [
      "sae_id,sae,step,tokens,loss,explained_variance",
      'sae_1,"the ""best"", so far",1,64,0.5,',
      'sae_1,"the ""best"", so far",2,128,0.25,-0.5',
      "",
    ].join("\n"),
  );
});
