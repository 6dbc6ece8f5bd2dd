import { useId, useState } from "react";
import { Link } from "wouter";
import { precise } from "../../components/numbers";
import { Raised } from "../../components/Raised";
import type { NeuronPage_RelatedFragment } from "./NeuronPage.generated";
import styles from "./Related.module.css";
import type { RelatedNeuron } from "./related";
import { ShownText } from "./ShownText";

interface RelatedRowProps extends RelatedNeuron {
  saeId: string;
  onTake: (text: string) => void;
  /** What the value is. */
  what: string;
  /** What is known of it besides its name; undefined until that has come. */
  about: NeuronPage_RelatedFragment | undefined;
}

/** A related neuron: its name or the tokens that it promotes, and its strongest text on demand. */
export function RelatedRow({ saeId, neuron, value, what, about, onTake }: RelatedRowProps) {
  const [isOpen, setOpen] = useState(false);
  const id = useId();
  const { index, concept } = neuron;
  const [text] = about?.topTexts ?? [];
  return (
    <li className={styles.row}>
      <Link href={`/saes/${saeId}/neurons/${index}`}>#{index}</Link>
      <span className={styles.name} title={concept?.name}>
        {concept?.name ?? <Raised tokens={about?.promotedTokens} otherwise="no name" />}
      </span>
      <button
        type="button"
        className={styles.text}
        aria-expanded={isOpen}
        aria-controls={id}
        aria-label={`Strongest text of #${index}`}
        disabled={!text}
        onClick={() => setOpen(!isOpen)}
      >
        Text
      </button>
      <span className={styles.value} title={what}>
        {precise(Number(value.toPrecision(3)))}
      </span>
      <div id={id} className={styles.more} hidden={!isOpen}>
        {isOpen && text && (
          <ShownText text={text} shown={{ isShort: false, hasValues: false, max: 0, onTake }} />
        )}
      </div>
    </li>
  );
}
