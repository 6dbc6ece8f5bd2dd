import styles from "./Raised.module.css";

interface RaisedProps {
  tokens: readonly { token: string }[] | null | undefined;
  /** Shown where none is known. */
  otherwise?: string;
}

/** The output tokens that a neuron raises most: they tell one without a name from others. */
export function Raised({ tokens, otherwise }: RaisedProps) {
  if (!tokens || tokens.length === 0) return otherwise && <span className="muted">{otherwise}</span>;
  return (
    <span className={styles.raises}>
      <span className="hidden-visually">raises </span>
      <span aria-hidden="true">↑</span>
      {tokens.map(({ token }) => token.trim() || JSON.stringify(token)).join(" ")}
    </span>
  );
}
