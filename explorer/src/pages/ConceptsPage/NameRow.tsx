import { memo } from "react";
import { Link } from "wouter";
import { useAction } from "../../api/hooks";
import { NumberText } from "../../components/NumberText";
import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import { NeuronPageUnnameMutationDocument } from "../NeuronPage/NeuronPage.generated";
import { share } from "../SaePage/NeuronRow";
import type { ConceptsPageNamesQuery } from "./ConceptsPage.generated";
import styles from "./Names.module.css";

export type NamedNeuron = NonNullable<ConceptsPageNamesQuery["sae"]>["neurons"]["nodes"][number];

interface NameRowProps {
  neuron: NamedNeuron;
  saeId: string;
  onHistory: (index: number) => void;
}

/** A named neuron, with what can be done to its name; a deletion can be undone in its history. */
export const NameRow = memo(function NameRow({ neuron, saeId, onHistory }: NameRowProps) {
  const { index, concept, frequency } = neuron;
  const { run, running, problem } = useAction(NeuronPageUnnameMutationDocument);
  if (!concept) return null;
  return (
    <div className={styles.row}>
      <Link href={`/saes/${saeId}/neurons/${index}?order=CONCEPT_NAME&named=yes`}>#{index}</Link>
      <div className={styles.what}>
        <div className={styles.line} title={concept.name}>
          <strong>{concept.name}</strong>
        </div>
        <div className={`${styles.line} muted`} title={concept.note ?? undefined}>
          {problem ? problem.message : concept.note}
        </div>
      </div>
      <span>{plain(concept.source)}</span>
      <span className={styles.figure}>
        <NumberText value={concept.score} />
      </span>
      <span className={styles.figure}>
        <NumberText value={frequency} format={share} />
      </span>
      <Time at={concept.updatedAt} />
      <span className={styles.actions}>
        <button
          type="button"
          className="plain"
          aria-label={`History of #${index}`}
          onClick={() => onHistory(index)}
        >
          History
        </button>
        <button
          type="button"
          className="plain"
          aria-label={`Delete the name of #${index}`}
          disabled={running}
          onClick={() => run({ id: concept.id })}
        >
          Delete
        </button>
      </span>
    </div>
  );
});

export function NameHead() {
  return (
    <div className={`${styles.row} ${styles.head}`}>
      <span>#</span>
      <span>Name, note</span>
      <span>Named by</span>
      <span className={styles.figure}>Score</span>
      <span className={styles.figure}>Frequency</span>
      <span>Changed</span>
      <span />
    </div>
  );
}
