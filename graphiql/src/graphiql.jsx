// GraphiQL for this server: HTTP for queries and mutations, graphql-transport-ws on the same URL for subscriptions.
import "graphiql/style.css";
import "./graphiql.css";

// GraphiQL imports them when it has drawn its frame; as there is nothing to do before, they come with the page.
import "monaco-graphql/esm/monaco-editor.js";
import "monaco-graphql/esm/lite.js";
import "monaco-graphql/esm/graphqlMode.js";

import { createGraphiQLFetcher, isAsyncIterable } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { parse } from "graphql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";

import tabs from "virtual:tabs";

import { Answers } from "./answers.js";
import { FillIn, MeasureFonts, Shown } from "./helpers.jsx";
import { NO_DOCS } from "./no_docs.jsx";

const root = document.getElementById("graphiql");
const url = new URL(root.dataset.url, window.location.href);
const socketUrl = new URL(url);
socketUrl.protocol = url.protocol === "https:" ? "wss:" : "ws:";

const send = createGraphiQLFetcher({
  url: url.href,
  wsClient: createClient({ url: socketUrl.href, lazyCloseTimeout: 5000 }),
});

const answers = new Answers(tabs);

let onShown;
const shown = new Promise((resolve) => (onShown = resolve));

// GraphiQL reads a tab's operations a moment after it is opened; who runs one before that means the new tab's.
function asWritten(request, options) {
  try {
    const documentAST = parse(request.query);
    const names = documentAST.definitions.filter(({ operation }) => operation).map(({ name }) => name?.value);
    const operationName = names.length === 1 ? names[0] : request.operationName;
    return [{ ...request, operationName }, { ...options, documentAST }];
  } catch {
    return [request, options]; // The server says what is wrong with it.
  }
}

async function fetcher(request, options) {
  // The schema takes a while to ask for and to build: the editor comes first.
  if (request.operationName === "IntrospectionQuery") await shown;
  const answer = await send(...asWritten(request, options));
  if (isAsyncIterable(answer)) return answers.passOn(answer);
  // The documentation lists types in the order of introspection; people look them up by name.
  answer.data?.__schema?.types.sort((one, other) => one.name.localeCompare(other.name));
  return answer;
}

// A null schema is not asked for.
const withoutSchema = { schema: null, referencePlugin: NO_DOCS };

createRoot(root).render(
  <GraphiQL
    fetcher={fetcher}
    defaultTabs={tabs}
    defaultEditorToolsVisibility="variables"
    {...(root.dataset.introspection === "off" && withoutSchema)}
  >
    <Shown onShown={onShown} />
    <FillIn answers={answers} />
    <MeasureFonts />
  </GraphiQL>,
);
