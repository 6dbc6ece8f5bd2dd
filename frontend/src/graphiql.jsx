// GraphiQL for this server: HTTP for queries and mutations, graphql-transport-ws on the same URL for subscriptions.
import "./workers.js";
import "graphiql/style.css";

import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";

import { tabs } from "./tabs.js";

const root = document.getElementById("graphiql");
const url = new URL(root.dataset.url, window.location.href);
const socketUrl = new URL(url);
socketUrl.protocol = url.protocol === "https:" ? "wss:" : "ws:";

const fetcher = createGraphiQLFetcher({
  url: url.href,
  wsClient: createClient({ url: socketUrl.href, lazyCloseTimeout: 5000 }),
});

createRoot(root).render(
  <GraphiQL fetcher={fetcher} defaultTabs={tabs} defaultEditorToolsVisibility="variables" />,
);
