import { NeuronLink } from "./NeuronLink";
import styles from "./PlayPage.module.css";
import { MAX_WATCHED, withEdit } from "./settings";
import type { Change } from "./usePlaySettings";

interface RowHeadProps {
  saeId: string;
  neuron: Parameters<typeof NeuronLink>[0]["neuron"];
  isEdited: boolean;
  isWatched: boolean;
  change: Change;
}

/** A neuron of the map, and what can be done with it. */
export function RowHead({ saeId, neuron, isEdited, isWatched, change }: RowHeadProps) {
  const { index } = neuron;
  const edit = () =>
    change((before) =>
      isEdited
        ? { ...before, edits: before.edits.filter((one) => one.index !== index) }
        : withEdit(before, { index, multiplier: 1, bias: null }),
    );
  const watch = () =>
    change((before) => {
      const others = before.watch.filter((one) => one !== index);
      // With one too many, the one that has been watched longest gives place.
      return { ...before, watch: isWatched ? others : [...others, index].slice(-MAX_WATCHED) };
    });
  return (
    <span className={styles.rowHead}>
      <span className={styles.rowName}>
        <NeuronLink saeId={saeId} neuron={neuron} />
      </span>
      <button
        type="button"
        className={styles.small}
        aria-pressed={isEdited}
        aria-label={`Edit #${index}`}
        onClick={edit}
      >
        Edit
      </button>
      <button
        type="button"
        className={styles.small}
        aria-pressed={isWatched}
        aria-label={`Watch #${index}`}
        onClick={watch}
      >
        Watch
      </button>
    </span>
  );
}
