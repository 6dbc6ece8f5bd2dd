import { Time } from "../../components/Time";
import { plain } from "../../components/words";
import styles from "./History.module.css";
import type { Named } from "./naming";

interface HistoryProps {
  neuron: Named;
  disabled: boolean;
  onRestore: (version: number) => void;
}

/** What the neuron was called, newest first; each name can come back. */
export function History({ neuron: { conceptHistory }, disabled, onRestore }: HistoryProps) {
  if (conceptHistory.length === 0) return <p className="muted">It has never had a name.</p>;
  return (
    <ol className={styles.list}>
      {conceptHistory.map(({ version, name, note, source, at }, place) => (
        <li key={version} className={styles.entry}>
          <div>
            {name === null ? <em>deleted</em> : <strong>{name}</strong>}{" "}
            <span className="muted">
              {plain(source)}, <Time at={at} />
            </span>
            {note && <p className="muted">{note}</p>}
          </div>
          {place > 0 && name !== null && (
            <button type="button" disabled={disabled} onClick={() => onRestore(version)}>
              Restore
            </button>
          )}
        </li>
      ))}
    </ol>
  );
}
