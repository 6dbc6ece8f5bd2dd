/** A token as the API gives it: of a prompt with label and special, of a stored text its text alone. */
export interface Token {
  text: string;
  label?: string;
  special?: boolean;
}

export interface Piece {
  /** Marks stand for what cannot be seen, and are no part of the text. */
  kind: "text" | "mark" | "special";
  text: string;
}

const INVISIBLE = /(\r\n|\n|\r|\t| {2,}|^ +$|[\p{Cc}\p{Cf}\u2028\u2029])/u;

/** Returns what to show of a token: never nothing, whatever it writes. */
export function piecesOf({ text, label, special }: Token): Piece[] {
  if (special) return [{ kind: "special", text: label || text || "special" }];
  // A character of several tokens is written by the first of them; the others have their bytes as labels.
  if (text === "") return [{ kind: "mark", text: label || "⋯" }];
  return text
    .split(INVISIBLE)
    .filter((part) => part !== "")
    .flatMap(shown);
}

function shown(part: string): Piece[] {
  if (part === "\n" || part === "\r\n" || part === "\r") {
    return [
      { kind: "mark", text: "↵" },
      { kind: "text", text: "\n" },
    ];
  }
  if (part === "\t") return [{ kind: "mark", text: "→" }];
  if (/^ +$/.test(part)) return [{ kind: "mark", text: "·".repeat(part.length) }];
  if (/^[\p{Cc}\p{Cf}\u2028\u2029]$/u.test(part)) {
    const code = part.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0");
    return [{ kind: "mark", text: `U+${code}` }];
  }
  return [{ kind: "text", text: part }];
}

/** Returns a token's name in a sentence: its label or text in quotes, without line breaks. */
export function nameOf(token: Token): string {
  const name = token.label || token.text;
  return name === "" ? "part of the character before" : JSON.stringify(name);
}
