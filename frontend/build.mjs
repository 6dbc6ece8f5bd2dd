// Bundles GraphiQL into gql_server/api/static: one script, one style sheet, and the editor's workers.
import { readFile, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const outdir = fileURLToPath(new URL("../gql_server/api/static", import.meta.url));
await rm(outdir, { recursive: true, force: true });

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

const common = {
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
  bundle: true,
  minify: true,
  outdir,
  target: "es2022",
  legalComments: "linked",
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
  plugins: [defaultsAreOptional],
};

await build({
  ...common,
  entryPoints: { graphiql: "src/graphiql.jsx" },
  format: "iife",
  jsx: "automatic",
  loader: { ".graphql": "text", ".jsonc": "text", ".ttf": "dataurl" },
});
await build({
  ...common,
  entryPoints: {
    "editor.worker": "monaco-editor/esm/vs/editor/editor.worker.js",
    "json.worker": "monaco-editor/esm/vs/language/json/json.worker.js",
    "graphql.worker": "monaco-graphql/esm/graphql.worker.js",
  },
  format: "iife",
});
