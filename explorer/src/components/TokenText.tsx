import { type CSSProperties, memo } from "react";
import { precise } from "./numbers";
import styles from "./TokenText.module.css";
import { nameOf, piecesOf, type Token } from "./tokenPieces";

interface TokenTextProps {
  tokens: readonly Token[];
  /** One for each token; without them nothing is shaded. */
  activations?: readonly number[];
  /** The activation of the strongest shade; by default the highest here. */
  max?: number;
  /** The place of a token to point out. */
  peak?: number;
  /** What the values are, in tooltips. */
  unit?: string;
}

/** Tokens shaded by activation, with the value in each one's tooltip. */
export const TokenText = memo(function TokenText(props: TokenTextProps) {
  const { tokens, activations = [], peak, unit = "activation" } = props;
  const max = props.max ?? activations.reduce((highest, value) => Math.max(highest, Math.abs(value)), 0);
  const strongest = peak === undefined ? undefined : tokens[peak];
  return (
    <p className={styles.text}>
      {strongest && peak !== undefined && (
        <span className="hidden-visually">
          {`On ${nameOf(strongest)}: ${unit} ${precise(activations[peak] ?? 0)}. Text: `}
        </span>
      )}
      {tokens.map((token, index) => (
        <ShadedToken
          // biome-ignore lint/suspicious/noArrayIndexKey: a token is its place.
          key={index}
          token={token}
          value={activations[index]}
          {...{ max, unit }}
          isPeak={index === peak}
        />
      ))}
    </p>
  );
});

interface ShadedTokenProps {
  token: Token;
  value: number | undefined;
  max: number;
  unit: string;
  isPeak: boolean;
}

function ShadedToken({ token, value, max, unit, isPeak }: ShadedTokenProps) {
  const pieces = piecesOf(token).map(({ kind, text }, index) =>
    kind === "text" ? (
      text
    ) : (
      // biome-ignore lint/suspicious/noArrayIndexKey: a piece is its place.
      <span key={index} className={styles[kind]}>
        {text}
      </span>
    ),
  );
  const className = isPeak ? `${styles.token} ${styles.peak}` : styles.token;
  const title = value === undefined ? undefined : `${nameOf(token)}: ${unit} ${precise(value)}`;
  if (!value || max <= 0) {
    return (
      <span className={className} title={title}>
        {pieces}
      </span>
    );
  }
  const strength = `${Math.round(12 + 88 * Math.min(1, Math.abs(value) / max))}%`;
  const color = value > 0 ? "var(--activation)" : "var(--negative)";
  return (
    <mark
      className={className}
      title={title}
      style={{ "--strength": strength, "--shade": color } as CSSProperties}
    >
      {pieces}
    </mark>
  );
}
