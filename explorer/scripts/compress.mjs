// Writes a .gz beside each file of the build that has at least a kilobyte: the server hands it out as it is.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { constants, gzipSync } from "node:zlib";

const SMALLEST = 1_000;
const directory = fileURLToPath(new URL("../../gql_server/api/static/explorer/assets/", import.meta.url));

for (const name of await readdir(directory)) {
  const content = await readFile(directory + name);
  if (content.length < SMALLEST) continue;
  await writeFile(`${directory}${name}.gz`, gzipSync(content, { level: constants.Z_BEST_COMPRESSION }));
}
