/** A value of a record, under the names that lead to it. */
export type Fact = readonly [path: string, value: string];

/** Returns what stands in a record, one value a line; what is not known is left out. */
export function factsOf(record: unknown, path: readonly string[] = []): Fact[] {
  if (record === null || record === undefined) return [];
  if (typeof record !== "object") return [[path.join(" › "), String(record)]];
  if (Array.isArray(record)) return listed(record, path);
  return Object.entries(record)
    .filter(([name]) => name !== "__typename")
    .flatMap(([name, value]) => factsOf(value, [...path, wordsOf(name)]));
}

/** Files and packages go by their names; all else that the API lists are plain values. */
function listed(list: readonly unknown[], path: readonly string[]): Fact[] {
  if (list.length === 0) return [];
  if (list.some((one) => typeof one !== "object")) return [[path.join(" › "), list.join(", ")]];
  return (list as { name: string; version?: string }[]).flatMap(({ name, version, ...rest }) =>
    factsOf(version ?? rest, [...path, name]),
  );
}

/** "shuffleBufferRows" is "shuffle buffer rows". */
function wordsOf(name: string): string {
  const words = name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return words.replace("sha256", "SHA-256");
}
