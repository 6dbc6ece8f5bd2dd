// GraphiQL for this server: HTTP for queries and mutations, graphql-transport-ws on the same URL for subscriptions.
import "./workers.js";
import "graphiql/style.css";
import "./graphiql.css";

import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";

import { NO_DOCS } from "./no_docs.jsx";
import { tabs } from "./tabs.js";

const root = document.getElementById("graphiql");
const url = new URL(root.dataset.url, window.location.href);
const socketUrl = new URL(url);
socketUrl.protocol = url.protocol === "https:" ? "wss:" : "ws:";

const send = createGraphiQLFetcher({
  url: url.href,
  wsClient: createClient({ url: socketUrl.href, lazyCloseTimeout: 5000 }),
});

// The documentation lists types in the order of introspection; people look them up by name.
async function fetcher(...request) {
  const answer = await send(...request);
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
  />,
);
