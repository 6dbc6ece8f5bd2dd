// Checks a schema with the Relay rules of @graphql-eslint/eslint-plugin, and prints as JSON what they find.
// Usage: node relay_rules.mjs SCHEMA
import { dirname } from "node:path";

import graphqlEslint from "@graphql-eslint/eslint-plugin";
import { ESLint } from "eslint";

const RULES = {
  "relay-arguments": { includeBoth: false },
  "relay-connection-types": null,
  "relay-edge-types": { listTypeCanWrapOnlyEdgeType: false },
  "relay-page-info": null,
};

const [schema] = process.argv.slice(2);
const eslint = new ESLint({
  cwd: dirname(schema),
  overrideConfigFile: true,
  overrideConfig: {
    files: ["**/*.graphql"],
    plugins: { "@graphql-eslint": graphqlEslint },
    languageOptions: { parser: graphqlEslint.parser, parserOptions: { graphQLConfig: { schema } } },
    rules: Object.fromEntries(
      Object.entries(RULES).map(([rule, options]) => [`@graphql-eslint/${rule}`, options ? ["error", options] : "error"]),
    ),
  },
});
const [{ messages }] = await eslint.lintFiles([schema]);
console.log(JSON.stringify(messages.map(({ ruleId, line, message }) => ({ rule: ruleId, line, message }))));
