/** Kinds whose beginning is a file of its own: of others a part cannot be read. */
const LINES = /\.(txt|jsonl|ndjson)$/i;
const PART_BYTES = 1_000_000;

export const ACCEPTED = ".txt,.csv,.tsv,.jsonl,.ndjson,.json,.parquet,.gz";

/** Returns what of a file to send for a look at it: whole lines of its first megabyte, or all of it. */
export async function beginningOf(file: File): Promise<File> {
  if (file.size <= PART_BYTES || !LINES.test(file.name)) return file;
  const bytes = new Uint8Array(await file.slice(0, PART_BYTES).arrayBuffer());
  // UTF-16 has this byte in other characters, too.
  const isUtf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  const end = bytes.lastIndexOf(10) + 1;
  return isUtf16 || end === 0 ? file : new File([file.slice(0, end)], file.name);
}

/** Returns texts that were typed, a paragraph each, as a file. */
export function fileOfTexts(typed: string): File {
  return new File([JSON.stringify(textsOf(typed))], "texts.json", { type: "application/json" });
}

/** Returns texts that blank lines separate; without blank lines each line is one. */
export function textsOf(typed: string): string[] {
  const separator = /\n[^\S\n]*\n/.test(typed.trim()) ? /\n(?:[^\S\n]*\n)+/ : /\n/;
  return typed
    .split(separator)
    .map((text) => text.trim())
    .filter((text) => text !== "");
}
