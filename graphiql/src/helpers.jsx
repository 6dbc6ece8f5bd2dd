// Writes what answers have given into the variables of the tab that is opened, where people see and change it.
import { useGraphiQL, useMonaco } from "@graphiql/react";
import { useEffect } from "react";

export function FillIn({ answers }) {
  const editor = useGraphiQL(({ variableEditor }) => variableEditor);
  const tab = useGraphiQL(({ tabs, activeTabIndex }) => tabs[activeTabIndex]?.id);

  useEffect(() => {
    if (!editor) return;
    const text = editor.getValue();
    const filled = answers.fillIn(text);
    if (filled !== text) editor.setValue(filled);
  }, [editor, tab, answers]);
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
