import type { ReactNode } from "react";
import type { Shared_TextFragment } from "../../api/Shared.generated";
import { precise, whole } from "../../components/numbers";
import { TokenText } from "../../components/TokenText";
import { nameOf } from "../../components/tokenPieces";
import { around, firingTokens, repeated } from "./around";
import styles from "./Texts.module.css";

/** How texts are shown, and what can be done with them. */
export interface Shown {
  /** Only some tokens around the one that the text is about. */
  isShort: boolean;
  /** Activations as numbers, too. */
  hasValues: boolean;
  /** The activation with the strongest shade; 0 for the highest of each text. */
  max: number;
  /** Takes a text to where it can be changed. */
  onTake: (text: string) => void;
  /** Tells the activation of the token that somebody points to, where it is one of this neuron. */
  onPoint?: ((activation: number | null) => void) | undefined;
}

interface ShownTextProps {
  text: Shared_TextFragment & { textCount?: number | null };
  shown: Shown;
  isSilent?: boolean;
  aside?: ReactNode;
}

/** One text with its tokens shaded. */
export function ShownText({ text, shown, isSilent = false, aside }: ShownTextProps) {
  const { tokens, activations, peak } = around(text, shown.isShort);
  const { onPoint } = shown;
  const strongest = tokens[peak];
  const point = (place: number | null) => onPoint?.((place !== null && activations[place]) || null);
  return (
    <div className={styles.text}>
      <div className={styles.head}>
        {!isSilent && <strong>{precise(text.score)}</strong>}
        <span className="muted">
          text {whole(text.textIndex)}
          {repeated(text.textCount)}
        </span>
        {aside}
        <button type="button" className={styles.take} onClick={() => shown.onTake(text.tokenTexts.join(""))}>
          Take to the test box
        </button>
      </div>
      <TokenText
        tokens={tokens}
        activations={activations}
        {...(shown.max > 0 && { max: shown.max })}
        {...(!isSilent && { peak })}
        {...(onPoint &&
          !isSilent && {
            pick: {
              label: `Text ${text.textIndex}, ${precise(text.score)} on ${strongest ? nameOf(strongest) : "a token"}: tokens`,
              picked: null,
              onPick: point,
              onPoint: point,
            },
          })}
      />
      {shown.hasValues && !isSilent && (
        <p className={styles.values}>
          {firingTokens(tokens, activations).map(({ place, name, value }) => (
            <span key={place}>
              <code>{name}</code> {precise(value)}
            </span>
          ))}
        </p>
      )}
    </div>
  );
}
