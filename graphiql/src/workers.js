// Where the editor finds its workers: beside the page's own modules.
const files = JSON.parse(document.getElementById("graphiql").dataset.workers);

globalThis.MonacoEnvironment = {
  getWorker(_workerId, label) {
    return new Worker(new URL(files[label] ?? files.editor, import.meta.url), { type: "module" });
  },
};
