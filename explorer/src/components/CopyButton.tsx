import { useState } from "react";

interface CopyButtonProps {
  text: string;
  label?: string;
}

/** Copies a text, and says so. */
export function CopyButton({ text, label = "Copy" }: CopyButtonProps) {
  const [told, setTold] = useState("");
  const copy = () =>
    navigator.clipboard.writeText(text).then(
      () => setTold("Copied"),
      () => setTold("The browser does not allow it"),
    );
  return (
    <button type="button" onClick={copy} onBlur={() => setTold("")}>
      <span aria-live="polite">{told || label}</span>
    </button>
  );
}
