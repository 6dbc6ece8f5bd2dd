import type { NeuronColumn } from "../../generated/types";

/** Figures of all neurons, by index. */
export type Columns = ReadonlyMap<NeuronColumn, Float32Array>;

interface Packed {
  column: NeuronColumn;
  float32: string;
}

/** Returns the numbers of a column: little-endian 32-bit floats in base64, as every browser's machine has them. */
export function unpack(base64: string): Float32Array {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place += 1) bytes[place] = binary.charCodeAt(place);
  return new Float32Array(bytes.buffer);
}

/** Unpacks columns one at a time, each when `next` lets it, so that no frame waits for all. Returns how to stop. */
export function unpackAll(
  packed: readonly Packed[],
  next: (act: () => void) => () => void,
  done: (columns: Columns) => void,
): () => void {
  const columns = new Map<NeuronColumn, Float32Array>();
  let stop = () => {};
  const step = () => {
    const one = packed[columns.size];
    if (!one) return done(columns);
    columns.set(one.column, unpack(one.float32));
    stop = next(step);
  };
  stop = next(step);
  return () => stop();
}
