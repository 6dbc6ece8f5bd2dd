// Bundles GraphiQL into gql_server/api/static/graphiql: modules, style sheets and fonts with hashes in their names,
// packed forms beside them, and index.html, which names them, last.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const outdir = join(here, "../gql_server/api/static/graphiql");
const SMALLEST_PACKED = 1000; // Bytes: what is shorter fits into one packet as it is.

// What a first visitor finds: each tab is a .graphql file, its variables a .jsonc file beside it; in the names' order.
const tabs = {
  name: "tabs",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^virtual:tabs$/ }, ({ path }) => ({ path, namespace: "tabs" }));
    onLoad({ filter: /.*/, namespace: "tabs" }, async () => {
      const folder = join(here, "src/tabs");
      const files = (await readdir(folder)).sort();
      const read = (name) => (files.includes(name) ? readFile(join(folder, name), "utf8") : undefined);
      const named = files.filter((name) => name.endsWith(".graphql"));
      const found = named.map(async (name) => ({
        query: await read(name),
        variables: await read(name.replace(".graphql", ".jsonc")),
      }));
      return { contents: JSON.stringify(await Promise.all(found)), loader: "json" };
    });
  },
};

// Upstream takes an input's field for required though it has a default, and underlines variables without it.
const defaultsAreOptional = {
  name: "defaults-are-optional",
  setup({ onLoad }) {
    onLoad({ filter: /getVariablesJSONSchema\.js$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const mended = source.replace("if (fieldRequired)", "if (fieldRequired && field.defaultValue === undefined)");
      if (mended === source) throw new Error(`${path} has changed: is this still needed?`);
      return { contents: mended };
    });
  },
};

// Monaco with the commands that these editors have, instead of all of them.
const fewerCommands = {
  name: "fewer-commands",
  setup({ onResolve }) {
    onResolve({ filter: /^monaco-editor\/esm\/vs\/editor\/edcore\.main\.js$/ }, () => ({
      path: join(here, "src/monaco.js"),
    }));
  },
};

// Fonts come inside the style sheet, which the page waits for; as files they come when a letter needs them.
const fontsAsFiles = {
  name: "fonts-as-files",
  setup({ onLoad }) {
    onLoad({ filter: /graphiql\/dist\/style\.css$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const fonts = [];
      const contents = source.replaceAll(/url\("?data:font\/(\w+);base64,([^")]+)"?\)/g, (_, type, data) => {
        const bytes = Buffer.from(data, "base64");
        const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 8).toUpperCase();
        const name = `font-${hash}.${type}`;
        fonts.push(writeFile(join(outdir, name), bytes));
        return `url("./${name}")`;
      });
      await Promise.all(fonts);
      return { contents, loader: "css" };
    });
  },
};

// That style sheet has Monaco's rules too.
const stylesOnce = {
  name: "styles-once",
  setup({ onLoad }) {
    onLoad({ filter: /monaco-editor\/esm\/.*\.css$/ }, () => ({ contents: "", loader: "empty" }));
  },
};

await rm(outdir, { recursive: true, force: true });
await mkdir(outdir, { recursive: true });

// Modules that load others when they are needed, and say of each what it is made of.
async function bundle(entryPoints) {
  const { metafile } = await build({
    absWorkingDir: here,
    entryPoints,
    entryNames: "[name]-[hash]",
    chunkNames: "chunk-[hash]",
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    minify: true,
    target: "es2022",
    jsx: "automatic",
    external: ["./font-*"],
    legalComments: "linked",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "warning",
    metafile: true,
    plugins: [tabs, defaultsAreOptional, fewerCommands, fontsAsFiles, stylesOnce],
  });
  return new Map(Object.entries(metafile.outputs).map(([path, output]) => [basename(path), output]));
}

// What is there before the page's modules are loaded.
const environment = entry(await bundle({ environment: "src/environment.js" }), "src/environment.js");

// The workers share nothing with the page, so that neither has to load many small files.
const outputs = await bundle({ graphiql: "src/graphiql.jsx" });
const workers = {};
for (const [name, source] of Object.entries({
  editor: "monaco-editor/esm/vs/editor/editor.worker.js",
  json: "monaco-editor/esm/vs/language/json/json.worker.js",
  graphql: "monaco-graphql/esm/graphql.worker.js",
})) {
  workers[name] = entry(await bundle({ [name]: source }), source);
}

function entry(built, source) {
  return [...built].find(([, { entryPoint }]) => entryPoint?.endsWith(source))[0];
}

// The files that a module needs to begin: its own first, then those that it imports.
function closure(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  for (const { path, kind } of outputs.get(name).imports) {
    if (kind === "import-statement") closure(basename(path), found);
  }
  return found;
}

const style = outputs.get(entry(outputs, "src/graphiql.jsx")).cssBundle;
const modules = [...closure(entry(outputs, "src/graphiql.jsx"))];
for (const name of await readdir(outdir)) {
  const bytes = await readFile(join(outdir, name));
  if (bytes.length < SMALLEST_PACKED || /\.woff2?$/.test(name)) continue;
  await writeFile(join(outdir, `${name}.gz`), await promisify(gzip)(bytes, { level: 9 }));
}

// The server fills in {root}, {introspection} and {nonce}.
const at = (name) => `{root}/static/graphiql/${name}`;
const page = await readFile(join(here, "index.html"), "utf8");
const filled = page
  .replace("{style}", at(basename(style)))
  .replace("{environment}", at(environment))
  .replace("{script}", at(modules[0]))
  .replace("{preloads}", modules.slice(1).map((name) => `<link rel="modulepreload" href="${at(name)}">`).join("\n    "))
  .replace("{workers}", JSON.stringify(workers).replaceAll('"', "&quot;"));
await writeFile(join(outdir, "index.html"), filled);
