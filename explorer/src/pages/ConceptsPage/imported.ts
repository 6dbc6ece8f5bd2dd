/** What is seen of a file before it is sent. */
export interface Preview {
  format: "csv" | "json";
  rows: readonly PreviewRow[];
  /** Rows in the file, wrong ones among them; null where the file cannot be read as its format. */
  count: number | null;
  /** What is wrong at first sight; the server looks at everything. */
  problems: readonly string[];
}

export interface PreviewRow {
  /** Its line or key. */
  place: string;
  index: string;
  name: string;
  score: string;
  problem: string | null;
}

const MAX_ROWS = 10;
const MAX_PROBLEMS = 10;

/** Returns the first rows of a file, and what is wrong with rows wherever they are. */
export function previewOf(text: string, latentCount: number): Preview {
  const content = text.replace(/^\ufeff/, "");
  const isJson = /^\s*[{[]/.test(content);
  const rows = isJson ? jsonRows(content) : csvRows(content);
  const format = isJson ? "json" : "csv";
  if (rows === null) return { format, rows: [], count: null, problems: ["This is no JSON."] };
  const checked = rows.map((row) => ({ ...row, problem: problemWith(row, latentCount) }));
  const wrong = checked.filter(({ problem }) => problem !== null);
  const problems = wrong.slice(0, MAX_PROBLEMS).map(({ place, problem }) => `${place}: ${problem}`);
  if (wrong.length > MAX_PROBLEMS) problems.push(`and ${wrong.length - MAX_PROBLEMS} more`);
  return { format, rows: checked.slice(0, MAX_ROWS), count: rows.length, problems };
}

type Row = Omit<PreviewRow, "problem">;

function problemWith({ index, name, score }: Row, latentCount: number): string | null {
  const number = index.trim();
  if (!/^\d+$/.test(number)) return `“${index}” is no neuron's number.`;
  if (Number(number) >= latentCount)
    return `There is no neuron ${number}; the last one is ${latentCount - 1}.`;
  if (name.trim() === "") return "The name is empty.";
  if (score.trim() !== "" && !Number.isFinite(Number(score))) return `“${score}” is no score.`;
  return null;
}

/** Returns a file's text, unpacked where it is packed; of a damaged one what is there. */
export async function textOf(file: File): Promise<string> {
  if (!file.name.endsWith(".gz")) return file.text();
  try {
    return await new Response(file.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  } catch {
    return file.text();
  }
}

/** Returns the rows of JSON lines as Neuronpedia has explanations; null where the first line is none. */
function lineRows(content: string): Row[] | null {
  const lines = content.split("\n").map((line, place) => ({ place: `line ${place + 1}`, line }));
  const rows = lines.filter(({ line }) => line.trim() !== "");
  if (!rows[0] || !explanation(rows[0].line)) return null;
  return rows.map(({ place, line }) => {
    const read = explanation(line);
    return { place, index: word(read?.index), name: word(read?.description), score: word(read?.score) };
  });
}

function explanation(line: string): Record<string, unknown> | null {
  try {
    const read: unknown = JSON.parse(line);
    return isRecord(read) && "index" in read && "description" in read ? read : null;
  } catch {
    return null;
  }
}

function jsonRows(content: string): Row[] | null {
  const lines = lineRows(content);
  if (lines) return lines;
  try {
    const read: unknown = JSON.parse(content);
    const concepts = isRecord(read) && isRecord(read.concepts) ? read.concepts : read;
    if (!isRecord(concepts)) return null;
    return Object.entries(concepts).map(([index, value]) => {
      const entry = isRecord(value) ? value : { name: value };
      return { place: `neuron ${index}`, index, name: word(entry.name), score: word(entry.score) };
    });
  } catch {
    return null;
  }
}

function word(one: unknown): string {
  return one === null || one === undefined ? "" : String(one);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function csvRows(content: string): Row[] {
  const [head = [], ...lines] = csvLines(content);
  const at = (name: string) => head.findIndex((title) => title.trim().toLowerCase() === name);
  const [index, name, score] = [at("neuron_idx"), at("concept_name"), at("score")];
  let line = 1;
  return lines.flatMap((cells) => {
    line += 1;
    const place = `line ${line}`;
    // A quoted cell may go over several lines.
    line += cells.reduce((sum, cell) => sum + cell.split("\n").length - 1, 0);
    if (cells.every((cell) => cell.trim() === "")) return [];
    return [{ place, index: cells[index] ?? "", name: cells[name] ?? "", score: cells[score] ?? "" }];
  });
}

/** Returns the cells of each line; a quoted cell may hold commas, quotes and line breaks. */
export function csvLines(content: string): string[][] {
  const delimiter = delimiterOf(content);
  const lines: string[][] = [];
  let [line, cell, isQuoted] = [[] as string[], "", false];
  const endCell = () => {
    line.push(cell);
    cell = "";
  };
  for (let place = 0; place < content.length; place += 1) {
    const character = content[place] ?? "";
    if (isQuoted) {
      if (character !== '"') cell += character;
      else if (content[place + 1] === '"') {
        cell += '"';
        place += 1;
      } else isQuoted = false;
    } else if (character === '"' && cell === "") isQuoted = true;
    else if (character === delimiter) endCell();
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && content[place + 1] === "\n") place += 1;
      endCell();
      lines.push(line);
      line = [];
    } else cell += character;
  }
  if (cell !== "" || line.length > 0) {
    endCell();
    lines.push(line);
  }
  return lines;
}

function delimiterOf(content: string): string {
  const [head = ""] = content.split(/[\r\n]/, 1);
  return [",", ";", "\t"].find((one) => head.includes(one)) ?? ",";
}
