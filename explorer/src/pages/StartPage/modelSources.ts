import type { AddLanguageModelInput } from "../../generated/types";

interface Known {
  id: string;
  name: string;
  source: string;
}

/** Where the server has paths to models that nobody has added, the bundled one first. */
export function newPaths(paths: readonly string[], known: readonly Known[]): string[] {
  const sources = new Set(known.map(({ source }) => source));
  const isBundled = (path: string) => /smollm2/i.test(path);
  return paths
    .filter((path) => !sources.has(path))
    .sort((one, other) => Number(isBundled(other)) - Number(isBundled(one)));
}

/** Returns a name for a model that no other has, from its path or repository. */
export function nameFor(location: string, known: readonly Known[]): string {
  const last = location.split(/[\\/]/).filter(Boolean).at(-1) ?? location;
  const base = last.replace(/\.gguf$/i, "");
  const taken = new Set(known.map(({ name }) => name));
  for (let number = 1; ; number++) {
    const name = number === 1 ? base : `${base} ${number}`;
    if (!taken.has(name)) return name;
  }
}

export type Source = AddLanguageModelInput["source"];

export function sourceOf(kind: "path" | "hub", location: string): Source {
  return kind === "path" ? { path: location } : { huggingFace: { repository: location } };
}
