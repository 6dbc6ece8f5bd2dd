// Where the editor finds its workers: beside the page's own script.
const files = { json: "json.worker.js", graphql: "graphql.worker.js" };
const base = document.currentScript.src;

globalThis.MonacoEnvironment = {
  getWorker(_workerId, label) {
    return new Worker(new URL(files[label] ?? "editor.worker.js", base));
  },
};
