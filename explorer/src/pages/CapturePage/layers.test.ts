import { expect, test } from "vitest";
import { drawingOf, type Layer, recommended, titleOf } from "./layers";

function layer(name: string, kind: Layer["kind"], depth: number | null = null): Layer {
  return { name, kind, depth, moduleClass: "Module" };
}

const MODEL = [
  layer("embed", "EMBEDDING"),
  layer("b1", "BLOCK", 1),
  layer("b0", "BLOCK", 0),
  layer("b0.norm", "NORM", 0),
  layer("b0.attention", "ATTENTION", 0),
  layer("b0.mlp", "MLP", 0),
  layer("b1.mixer", "MIXER", 1),
  layer("norm", "NORM"),
  layer("head", "HEAD"),
];

test("a model is drawn block by block, with the parts in the order in which they are computed", () => {
  const { before, blocks, after } = drawingOf(MODEL, false);
  expect([before, after]).toEqual([[], []]);
  expect(blocks.map(({ depth, whole }) => [depth, whole?.name])).toEqual([
    [0, "b0"],
    [1, "b1"],
  ]);
  expect(blocks[0]?.parts.map(({ name }) => name)).toEqual(["b0.attention", "b0.mlp"]);
});

test("everything is drawn when asked for", () => {
  const { before, blocks, after } = drawingOf(MODEL, true);
  expect(before.map(({ name }) => name)).toEqual(["embed"]);
  expect(after.map(({ name }) => name)).toEqual(["norm", "head"]);
  expect(blocks[0]?.parts).toHaveLength(3);
});

test("of 30 blocks the tenth is recommended, and of one that", () => {
  const blocks = Array.from({ length: 30 }, (_, depth) => layer(`b${depth}`, "BLOCK", depth));
  expect(recommended(blocks)?.name).toBe("b9");
  expect(recommended(MODEL.slice(1, 2))?.name).toBe("b1");
  expect(recommended([])).toBeNull();
});

test("a layer that stands alone says where it belongs", () => {
  expect(MODEL.map(titleOf)).toContain("Attention of block 0");
  expect(titleOf(layer("b3", "BLOCK", 3))).toBe("Block 3");
});

test("what a module reads is called by the module", () => {
  const heads = layer("m_layers_9_self_attn_o_proj.input", "INPUT", 9);
  expect(titleOf(heads)).toBe("Input of self_attn_o_proj in block 9");
  expect(titleOf(layer("m_layers_0.input", "INPUT", 0))).toBe("Input of block 0");
});
