import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` shows the pages of a server that runs elsewhere, by default on this machine.
const server = process.env.GQL_SERVER_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  // The server knows under which path it is shown, and puts that in place of "./" in index.html.
  base: "./",
  plugins: [react()],
  build: {
    outDir: "../gql_server/api/static/explorer",
    emptyOutDir: true,
    target: "es2022",
    // The content security policy has no data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      "/graphql": { target: server, ws: true, changeOrigin: true, headers: { origin: server } },
    },
  },
  test: { include: ["src/**/*.test.ts"] },
});
