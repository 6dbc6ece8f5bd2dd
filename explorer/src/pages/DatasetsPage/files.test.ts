import { expect, test } from "vitest";
import { beginningOf, textsOf } from "./files";

test("typed texts are paragraphs where there are blank lines, else lines", () => {
  expect(textsOf("one\ntwo\n\n \nthree\n")).toEqual(["one\ntwo", "three"]);
  expect(textsOf("one\n two \n")).toEqual(["one", "two"]);
  expect(textsOf(" \n")).toEqual([]);
});

test("a look at a large file of lines takes whole lines of its beginning", async () => {
  const line = `${"x".repeat(99)}\n`;
  const part = await beginningOf(new File([line.repeat(20_000)], "many.TXT"));
  expect(part.name).toBe("many.TXT");
  expect(part.size).toBe(1_000_000);
  const odd = await beginningOf(new File([`${"y".repeat(150)}\n`.repeat(20_000)], "odd.jsonl"));
  expect(odd.size % 151).toBe(0);
  expect(odd.size).toBeGreaterThan(999_000);
});

test("other kinds and small files are looked at as they are", async () => {
  const table = new File(["a".repeat(2_000_000)], "table.csv");
  expect(await beginningOf(table)).toBe(table);
  const small = new File(["a\n"], "small.txt");
  expect(await beginningOf(small)).toBe(small);
  const endless = new File(["a".repeat(2_000_000)], "endless.txt");
  expect(await beginningOf(endless)).toBe(endless);
});
