// Bundles GraphiQL into gql_server/api/static: one script, one style sheet, and the editor's workers.
import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const outdir = fileURLToPath(new URL("../gql_server/api/static", import.meta.url));
await rm(outdir, { recursive: true, force: true });

const common = {
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
  bundle: true,
  minify: true,
  outdir,
  target: "es2022",
  legalComments: "linked",
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
};

await build({
  ...common,
  entryPoints: { graphiql: "src/graphiql.jsx" },
  format: "iife",
  jsx: "automatic",
  loader: { ".graphql": "text", ".json": "text", ".ttf": "dataurl" },
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
