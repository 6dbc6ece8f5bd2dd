import { expect, test } from "vitest";
import { nameOf, type Piece, piecesOf } from "./tokenPieces";

function texts(pieces: Piece[], kind: Piece["kind"]): string {
  return pieces.flatMap((piece) => (piece.kind === kind ? [piece.text] : [])).join("");
}

test("ordinary text stays as it is, with the space before a word", () => {
  expect(piecesOf({ text: " word" })).toEqual([{ kind: "text", text: " word" }]);
  expect(piecesOf({ text: "日本" })).toEqual([{ kind: "text", text: "日本" }]);
});

test("a token without text of its own shows its bytes, or that it goes on", () => {
  expect(piecesOf({ text: "", label: "<0x9F>" })).toEqual([{ kind: "mark", text: "<0x9F>" }]);
  expect(piecesOf({ text: "" })).toEqual([{ kind: "mark", text: "⋯" }]);
  expect(nameOf({ text: "" })).toBe("part of the character before");
});

test("special tokens are shown as such, even without text", () => {
  expect(piecesOf({ text: "<s>", label: "<s>", special: true })).toEqual([{ kind: "special", text: "<s>" }]);
  expect(piecesOf({ text: "", special: true })).toEqual([{ kind: "special", text: "special" }]);
});

test("line breaks are seen and still break", () => {
  const pieces = piecesOf({ text: "a\n\nb" });
  expect(texts(pieces, "text")).toBe("a\n\nb");
  expect(texts(pieces, "mark")).toBe("↵↵");
});

test("space that would be lost is counted, between words it is not", () => {
  expect(piecesOf({ text: "   " })).toEqual([{ kind: "mark", text: "···" }]);
  expect(piecesOf({ text: " " })).toEqual([{ kind: "mark", text: "·" }]);
  expect(texts(piecesOf({ text: "a b" }), "mark")).toBe("");
  expect(texts(piecesOf({ text: "\tx" }), "mark")).toBe("→");
});

test("characters without a shape have their numbers", () => {
  expect(piecesOf({ text: "\u200b" })).toEqual([{ kind: "mark", text: "U+200B" }]);
  expect(texts(piecesOf({ text: "a\u0000b" }), "mark")).toBe("U+0000");
});

test("no token shows nothing", () => {
  for (const text of ["", " ", "\r", "\u00ad", "x"]) expect(piecesOf({ text })).not.toEqual([]);
});
