import styles from "./Texts.module.css";

/** Longer texts are cut: they are here to be recognized, not read. */
const SHOWN_CHARACTERS = 600;

interface TextsProps {
  label: string;
  texts: readonly string[];
  /** The number of the first of them; 0 by default. */
  offset?: number;
}

/** Some texts of a dataset. */
export function Texts({ label, texts, offset = 0 }: TextsProps) {
  return (
    <ol className={styles.texts} aria-label={label} tabIndex={0} start={offset}>
      {texts.map((text, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a text is its place.
        <li key={index} className={styles.text}>
          <span className="muted">{offset + index} </span>
          {text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}
        </li>
      ))}
    </ol>
  );
}
