import { useDeferredValue, useState } from "react";
import { Link } from "wouter";
import { useData } from "../../api/hooks";
import { TextField } from "../../components/controls";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { ComparePageNewestQueryDocument, ComparePageSearchQueryDocument } from "./ComparePage.generated";
import styles from "./SaePicker.module.css";

export const MAX_SAES = 20;

interface SaePickerProps {
  ids: readonly string[];
  /** Names of those that are known. */
  names: ReadonlyMap<string, string>;
  onChange: (ids: string[]) => void;
}

/** Which SAEs are compared: chosen by a search, or among the newest. */
export function SaePicker({ ids, names, onChange }: SaePickerProps) {
  const [isOpen, setOpen] = useState(ids.length < 2);
  return (
    <>
      <ul className={styles.chosen} aria-label="SAEs that are compared">
        {ids.map((id) => (
          <li key={id} className={styles.chip}>
            <Link href={`/saes/${id}`}>{names.get(id) ?? id}</Link>
            <button
              type="button"
              className="plain"
              aria-label={`Remove ${names.get(id) ?? id}`}
              onClick={() => onChange(ids.filter((one) => one !== id))}
            >
              ✕
            </button>
          </li>
        ))}
        <li>
          {ids.length < MAX_SAES ? (
            <button type="button" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
              {isOpen ? "Done" : "Add an SAE"}
            </button>
          ) : (
            <span className="muted">{MAX_SAES} are the most.</span>
          )}
        </li>
      </ul>
      {isOpen && ids.length < MAX_SAES && <Choice taken={ids} onChoose={(id) => onChange([...ids, id])} />}
    </>
  );
}

function Choice({ taken, onChoose }: { taken: readonly string[]; onChoose: (id: string) => void }) {
  const [text, setText] = useState("");
  const searched = useDeferredValue(text.trim());
  const isSearch = searched !== "";
  const newest = useData(ComparePageNewestQueryDocument, {}, { pause: isSearch });
  const search = useData(ComparePageSearchQueryDocument, { text: searched }, { pause: !isSearch });
  const answer = isSearch ? search : newest;
  const found = isSearch
    ? search.data?.search.flatMap((hit) => (hit.__typename === "Sae" ? [hit] : []))
    : newest.data?.saes.nodes;
  const offered = found?.filter(({ id }) => !taken.includes(id));
  return (
    <div className={styles.choice}>
      <TextField
        type="search"
        label="Find an SAE"
        value={text}
        onChange={setText}
        placeholder="Its name or ID"
      />
      {answer.problem && <ErrorBox problem={answer.problem} onRetry={answer.reload} />}
      {!offered && !answer.problem && <p className="muted">Loading…</p>}
      {offered?.length === 0 &&
        (isSearch || taken.length > 0 ? (
          <p className="muted">{isSearch ? "No other SAE is called so." : "There is no other SAE."}</p>
        ) : (
          <Empty next={{ href: "/train", label: "Train one" }}>There is no SAE yet.</Empty>
        ))}
      <ul className={styles.offered} aria-label="SAEs to add">
        {offered?.map(({ id, name, layer, languageModel }) => (
          <li key={id}>
            <button type="button" onClick={() => onChoose(id)}>
              {name}
              <span className="muted">
                {languageModel.name}, {layer}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
