import { expect, test } from "vitest";
import { type PublicSae, placeOf, wantedOf } from "./wanted";

const SAE: PublicSae = {
  release: "gemma-scope-2b-pt-res",
  name: "layer_12/width_16k/average_l0_82",
  repository: "google/gemma-scope-2b-pt-res",
  path: "layer_12/width_16k/average_l0_82",
  place: "blocks.12.hook_resid_post",
  outputPlace: null,
  latentCount: 16384,
  l0: 82,
  inputScale: null,
  layer: null,
  refusal: null,
};

test("what is not known is left out", () => {
  expect(wantedOf(SAE)).toEqual({
    name: "gemma-scope-2b-pt-res layer_12/width_16k/average_l0_82",
    source: { huggingFace: { repository: SAE.repository, path: SAE.path } },
  });
});

test("what is known is asked for, and a name is no longer than it may be", () => {
  const wanted = wantedOf({ ...SAE, name: "n".repeat(300), layer: "model_layers_12", inputScale: 1.05 });
  expect(wanted).toMatchObject({ layer: "model_layers_12", inputScale: 1.05 });
  expect(wanted.name).toHaveLength(200);
});

test("a transcoder has two places", () => {
  expect(placeOf({ ...SAE, outputPlace: "blocks.12.hook_mlp_out" })).toBe(
    "blocks.12.hook_resid_post to blocks.12.hook_mlp_out",
  );
});
