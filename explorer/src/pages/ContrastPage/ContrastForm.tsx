import { type FormEvent, useState } from "react";
import { TextArea } from "../../components/controls";
import styles from "./ContrastPage.module.css";
import { linesOf, type Sets } from "./texts";

interface ContrastFormProps {
  sets: Sets;
  maxPrompts: number | undefined;
  onContrast: (sets: Sets) => void;
}

const EXAMPLE: Sets = {
  a: ["The cat sleeps on the warm sofa.", "My dog runs after the ball.", "A horse eats grass in the field."],
  b: ["The engine needs new oil.", "A train leaves the station at noon.", "My car has a flat tire."],
};

/** Two sets of texts, one a line. */
export function ContrastForm({ sets, maxPrompts, onContrast }: ContrastFormProps) {
  const [textA, setTextA] = useState(sets.a.join("\n"));
  const [textB, setTextB] = useState(sets.b.join("\n"));
  const [a, b] = [linesOf(textA), linesOf(textB)];
  const hint = (lines: readonly string[]) =>
    `One text a line: ${lines.length}${maxPrompts === undefined ? "" : ` of at most ${maxPrompts}`}.`;
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    onContrast({ a, b });
  };
  const show = ({ a: left, b: right }: Sets) => {
    setTextA(left.join("\n"));
    setTextB(right.join("\n"));
  };
  const isEmpty = textA === "" && textB === "";
  return (
    <form className={styles.form} onSubmit={onSubmit}>
      <div className={styles.sets}>
        <TextArea label="Texts A" rows={6} value={textA} onChange={setTextA} hint={hint(a)} />
        <TextArea label="Texts B" rows={6} value={textB} onChange={setTextB} hint={hint(b)} />
      </div>
      <div className="row">
        <button type="submit" className="primary" disabled={a.length === 0 || b.length === 0}>
          Contrast
        </button>
        <button type="button" onClick={() => show({ a: b, b: a })} disabled={isEmpty}>
          Swap
        </button>
        {isEmpty && (
          <button type="button" onClick={() => show(EXAMPLE)}>
            Fill in an example
          </button>
        )}
      </div>
    </form>
  );
}
