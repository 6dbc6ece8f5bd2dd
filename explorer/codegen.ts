// Types and documents for every .graphql file: <name>.generated.ts beside it, so that each page's chunk carries
// its own documents only.
import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../schema.graphql",
  documents: "src/**/*.graphql",
  generates: {
    "src/generated/types.ts": { plugins: ["typescript"] },
    "src/": {
      preset: "near-operation-file",
      presetConfig: { extension: ".generated.ts", baseTypesPath: "generated/types.ts" },
      plugins: ["typescript-operations", "typed-document-node"],
    },
  },
  config: {
    avoidOptionals: { field: true },
    dedupeFragments: true,
    documentMode: "documentNode",
    enumsAsTypes: true,
    inlineFragmentTypes: "combine",
    optimizeDocumentNode: true,
    dedupeOperationSuffix: true,
    scalars: { ID: "string", BigInt: "number", DateTime: "string", Upload: "File | Blob" },
    strictScalars: true,
    useTypeImports: true,
  },
};

export default config;
