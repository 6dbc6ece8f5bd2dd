// Writes what answers have given into the variables of the tab that is opened, where people see and change it.
import { useGraphiQL, useGraphiQLActions, useMonaco } from "@graphiql/react";
import { useEffect } from "react";

export function FillIn({ answers }) {
  const editor = useGraphiQL(({ variableEditor }) => variableEditor);
  const { updateActiveTabValues } = useGraphiQLActions();
  const tab = useGraphiQL(({ tabs, activeTabIndex }) => tabs[activeTabIndex]?.id);

  useEffect(() => {
    if (!editor) return;
    const text = editor.getValue();
    const filled = answers.fillIn(text);
    if (filled === text) return;
    editor.setValue(filled);
    // GraphiQL keeps it only a moment later; until then a second click on the tab would bring back what was there.
    updateActiveTabValues({ variables: filled });
  }, [editor, tab, answers, updateActiveTabValues]);
  return null;
}

/** Have the editors measure their letters again once the fonts are there, which are files of their own. */
export function MeasureFonts() {
  const monaco = useMonaco(({ monaco }) => monaco);

  useEffect(() => {
    if (!monaco) return;
    const measure = () => monaco.editor.remeasureFonts();
    document.fonts.addEventListener("loadingdone", measure);
    return () => document.fonts.removeEventListener("loadingdone", measure);
  }, [monaco]);
  return null;
}

/** Say so once the editor shows its text. */
export function Shown({ onShown }) {
  const editor = useGraphiQL(({ queryEditor }) => queryEditor);

  useEffect(() => {
    // The frame after the one in which it is drawn.
    if (editor) requestAnimationFrame(() => requestAnimationFrame(onShown));
  }, [editor, onShown]);
  return null;
}
