import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Provider } from "urql";
import { Router } from "wouter";
import { client } from "./api/client";
import { rootPath } from "./api/endpoint";
import { Shell } from "./app/Shell";
import "./app/theme.css";

const root = document.getElementById("root");
if (!root) throw new Error("The page has no #root");

createRoot(root).render(
  <StrictMode>
    <Provider value={client}>
      <Router base={rootPath}>
        <Shell />
      </Router>
    </Provider>
  </StrictMode>,
);
