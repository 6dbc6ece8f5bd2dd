/** A name as it is given out. */
export interface ExportedName {
  index: number;
  name: string;
  score: number | null;
}

/** Returns names as a file that importConcepts takes: its CSV, or mi_crow's concepts.json. */
export function fileOf(names: readonly ExportedName[], format: "csv" | "json"): string {
  return format === "csv" ? csvOf(names) : jsonOf(names);
}

function csvOf(names: readonly ExportedName[]): string {
  const lines = names.map(({ index, name, score }) => `${index},${quoted(name)},${score ?? ""}`);
  return ["neuron_idx,concept_name,score", ...lines, ""].join("\r\n");
}

/** Quotes a name always: it may hold anything. */
function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function jsonOf(names: readonly ExportedName[]): string {
  const concepts = Object.fromEntries(names.map(({ index, name, score }) => [index, { name, score }]));
  return `${JSON.stringify({ concepts }, null, 2)}\n`;
}
