import { expect, test } from "vitest";
import { fileOf } from "./exported";
import { csvLines, previewOf, textOf } from "./imported";

const NAMES = [
  { index: 3, name: 'a "quoted", long\nname', score: 0.5 },
  { index: 40, name: "plain", score: null },
];

test("what is given out can be taken in again", () => {
  for (const format of ["csv", "json"] as const) {
    const preview = previewOf(fileOf(NAMES, format), 64);
    expect(preview.problems).toEqual([]);
    expect(preview.format).toBe(format);
    expect(preview.rows.map(({ index, name, score }) => [index, name, score])).toEqual([
      ["3", 'a "quoted", long\nname', "0.5"],
      ["40", "plain", ""],
    ]);
  }
});

test("rows that are wrong are told by their place, in files of any length", () => {
  const rows = Array.from({ length: 30 }, (_, index) => `${index},name ${index},`);
  const file = ["neuron_idx,concept_name,score", ...rows, "64,beyond,", "x,none,", "7,,", "8,name,high"].join(
    "\n",
  );
  const { problems, count, rows: shown } = previewOf(file, 64);
  expect(count).toBe(34);
  expect(shown.length).toBe(10);
  expect(problems).toEqual([
    "line 32: There is no neuron 64; the last one is 63.",
    "line 33: “x” is no neuron's number.",
    "line 34: The name is empty.",
    "line 35: “high” is no score.",
  ]);
});

test("explanations of Neuronpedia's are read, packed or not", async () => {
  const lines = [
    '{"index": "3", "description": "colours", "score": 0.5}',
    "",
    '{"index": "64", "description": "x"}',
  ];
  const file = `${lines.join("\n")}\n{`;
  const packed = new Response(new Blob([file]).stream().pipeThrough(new CompressionStream("gzip")));
  const unpacked = await textOf(new File([await packed.arrayBuffer()], "batch-0.jsonl.gz"));
  expect(unpacked).toBe(file);
  expect(await textOf(new File(["damaged"], "a.gz"))).toBe("damaged");
  const { format, rows, problems } = previewOf(unpacked, 64);
  expect(format).toBe("json");
  expect(rows[0]).toEqual({ place: "line 1", index: "3", name: "colours", score: "0.5", problem: null });
  expect(problems).toEqual([
    "line 3: There is no neuron 64; the last one is 63.",
    "line 4: “” is no neuron's number.",
  ]);
});

test("a broken file is told as a whole", () => {
  expect(previewOf('{"concepts": ', 64)).toEqual({
    format: "json",
    rows: [],
    count: null,
    problems: ["This is no JSON."],
  });
});

test("cells may hold delimiters and line breaks, and lines end in any way", () => {
  expect(csvLines('a,"b,\n""c"""\r\n1,2\r3;,')).toEqual([
    ["a", 'b,\n"c"'],
    ["1", "2"],
    ["3;", ""],
  ]);
  expect(csvLines("neuron_idx;concept_name\n1;x")).toEqual([
    ["neuron_idx", "concept_name"],
    ["1", "x"],
  ]);
});

test("lines are counted as the server counts them, those within a name, too", () => {
  const file = 'neuron_idx,concept_name,score\n1,"two\nlines",\n\nx,none,';
  expect(previewOf(file, 64).problems).toEqual(["line 5: “x” is no neuron's number."]);
});
