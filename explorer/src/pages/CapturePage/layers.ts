import type { LayerKind } from "../../generated/types";

export interface Layer {
  name: string;
  kind: LayerKind;
  depth: number | null;
  moduleClass: string;
  /** How many numbers it has for a token, where that was asked for. */
  width?: number | null;
}

export interface Block {
  depth: number;
  /** Attention, MLP and the like, in the order in which they are computed. */
  parts: Layer[];
  /** The block itself, whose output is the residual stream after it. */
  whole: Layer | null;
}

/** A model as it is drawn: what comes before the blocks, the blocks, what comes after them. */
export interface Drawing {
  before: Layer[];
  blocks: Block[];
  after: Layer[];
}

const MAIN: readonly LayerKind[] = ["BLOCK", "ATTENTION", "MIXER", "MLP"];

/** Returns a model's modules in their places; without `everything`, those that SAEs are usually trained on. */
export function drawingOf(layers: readonly Layer[], everything: boolean): Drawing {
  const shown = layers.filter(({ kind }) => everything || MAIN.includes(kind));
  const depths = [...new Set(layers.flatMap(({ depth }) => depth ?? []))].sort((a, b) => a - b);
  const outside = shown.filter(({ depth }) => depth === null);
  return {
    before: outside.filter(({ kind }) => kind === "EMBEDDING"),
    after: outside.filter(({ kind }) => kind !== "EMBEDDING"),
    blocks: depths.map((depth) => {
      const here = shown.filter((layer) => layer.depth === depth);
      return {
        depth,
        parts: here.filter(({ kind }) => kind !== "BLOCK"),
        whole: here.find(({ kind }) => kind === "BLOCK") ?? null,
      };
    }),
  };
}

const KINDS: Record<LayerKind, string> = {
  BLOCK: "Output",
  ATTENTION: "Attention",
  MIXER: "Mixer",
  MLP: "MLP",
  NORM: "Norm",
  EMBEDDING: "Embedding",
  HEAD: "Head",
  INPUT: "Input",
  OTHER: "Other",
};

export function kindOf(layer: Layer): string {
  if (layer.kind !== "INPUT") return KINDS[layer.kind];
  // A block has several; which one it is only its name says.
  const reader = layer.name.replace(/\.input$/, "").replace(/^.*_\d+(?:_|$)/, "");
  return reader ? `${KINDS.INPUT} of ${reader}` : KINDS.INPUT;
}

/** Returns a layer's name for people, where it stands alone. */
export function titleOf(layer: Layer): string {
  if (layer.depth === null) return kindOf(layer);
  if (layer.kind === "BLOCK") return `Block ${layer.depth}`;
  const within = layer.kind === "INPUT" && kindOf(layer) !== KINDS.INPUT ? "in" : "of";
  return `${kindOf(layer)} ${within} block ${layer.depth}`;
}

/** Returns the block to begin with: a third of the way up, where features are neither bytes nor next tokens. */
export function recommended(layers: readonly Layer[]): Layer | null {
  const blocks = layers.filter(({ kind }) => kind === "BLOCK");
  return blocks[Math.floor(blocks.length * 0.3)] ?? null;
}
