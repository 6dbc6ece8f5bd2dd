import { type FormEvent, useDeferredValue, useState } from "react";
import { useData } from "../../api/hooks";
import { TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { neuronName } from "./NeuronLink";
import { PlayPageFindQueryDocument } from "./PlayPage.generated";
import styles from "./PlayPage.module.css";

interface NeuronFinderProps {
  saeId: string;
  onFind: (index: number) => void;
}

/** Adds a neuron by its number, or by words of its name. */
export function NeuronFinder({ saeId, onFind }: NeuronFinderProps) {
  const [text, setText] = useState("");
  const number = /^#?(\d{1,9})$/.exec(text.trim())?.[1];
  const search = useDeferredValue(text.trim());
  const isName = search !== "" && !/^#?\d*$/.test(search);
  const { data, problem, loading } = useData(
    PlayPageFindQueryDocument,
    { saeId, search },
    { pause: !isName },
  );
  const found = isName ? (data?.sae?.neurons.nodes ?? []) : [];
  const add = (index: number) => {
    onFind(index);
    setText("");
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    const index = number === undefined ? found[0]?.index : Number(number);
    if (index !== undefined) add(index);
  };
  return (
    <form className={styles.finder} onSubmit={onSubmit}>
      <TextField label="Neuron" placeholder="Number, or words of its name" value={text} onChange={setText} />
      <button type="submit" disabled={number === undefined && found.length === 0}>
        Add an edit
      </button>
      {problem && <ErrorBox problem={problem} />}
      {isName && data && !loading && found.length === 0 && (
        <p role="status" className="muted">
          No name or note has these words.
        </p>
      )}
      <span className={styles.buttons}>
        {found.map((neuron) => (
          <button key={neuron.index} type="button" onClick={() => add(neuron.index)}>
            {neuronName(neuron)}
          </button>
        ))}
      </span>
    </form>
  );
}
