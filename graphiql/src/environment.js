// What Monaco finds when it is loaded: its workers, and a way to style itself without inline styles.
const files = JSON.parse(document.getElementById("graphiql").dataset.workers);
const LATER = "data-style";

// The content security policy takes style elements that have the page's nonce, and no style attributes in HTML.
const { nonce } = document.querySelector("meta[property=csp-nonce]");
const create = document.createElement.bind(document);
document.createElement = (...given) => {
  const element = create(...given);
  if (element instanceof HTMLStyleElement) element.nonce = nonce;
  return element;
};

// Monaco writes the places of its lines into HTML; they are set from here, before the page is painted.
function setStyles(records) {
  for (const { addedNodes } of records) {
    for (const added of addedNodes) {
      if (!(added instanceof Element)) continue;
      for (const element of [added, ...added.querySelectorAll(`[${LATER}]`)]) {
        if (!element.hasAttribute(LATER)) continue;
        element.style.cssText += element.getAttribute(LATER);
        element.removeAttribute(LATER);
      }
    }
  }
}
new MutationObserver(setStyles).observe(document, { childList: true, subtree: true });

globalThis.MonacoEnvironment = {
  // Workers lie beside the page's own modules.
  getWorker(_workerId, label) {
    return new Worker(new URL(files[label] ?? files.editor, import.meta.url), { type: "module" });
  },
  // Text of the editor has no `<`: what looks like a tag is one of Monaco's.
  createTrustedTypesPolicy(_name, { createHTML, ...others }) {
    const written = (html, ...given) =>
      createHTML(html, ...given).replaceAll(/<[^<>]*>/g, (tag) => tag.replaceAll(/\sstyle="/g, ` ${LATER}="`));
    return createHTML ? { ...others, createHTML: written } : others;
  },
};
