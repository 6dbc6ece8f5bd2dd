import type { Shared_TextFragment } from "../../api/Shared.generated";
import { type Shown, ShownText } from "./ShownText";
import styles from "./Texts.module.css";

interface TextListProps {
  texts: readonly Shared_TextFragment[];
  shown: Shown;
  isSilent?: boolean;
}

/** Texts below each other. */
export function TextList({ texts, shown, isSilent = false }: TextListProps) {
  return (
    <div className={styles.list}>
      {texts.map((text) => (
        <ShownText key={keyOf(text)} text={text} shown={shown} isSilent={isSilent} />
      ))}
    </div>
  );
}

/** Returns where a text is: no other stretch of a neuron's is there. */
export function keyOf({ textIndex, pieceIndex, tokenIndex }: Shared_TextFragment): string {
  return `${textIndex}-${pieceIndex}-${tokenIndex}`;
}
