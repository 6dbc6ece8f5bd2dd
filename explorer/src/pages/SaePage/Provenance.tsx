import { useState } from "react";
import { useData } from "../../api/hooks";
import { CopyButton } from "../../components/CopyButton";
import { ErrorBox } from "../../components/ErrorBox";
import styles from "./Provenance.module.css";
import { factsOf } from "./provenance";
import { SaePageProvenanceQueryDocument } from "./SaePage.generated";

/** What it takes to make the same SAE again: hashes, seeds, versions. It is asked for once it is unfolded. */
export function Provenance({ saeId }: { saeId: string }) {
  const [isOpen, setOpen] = useState(false);
  const { data, problem, reload } = useData(
    SaePageProvenanceQueryDocument,
    { id: saeId },
    { pause: !isOpen },
  );
  const record = data?.sae?.provenance;
  return (
    <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>What it takes to make the same again</summary>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {isOpen && !data && !problem && <p className="muted">Loading…</p>}
      {data && !record && (
        <p className="muted">Not known: it is not ready, or an earlier version of the server made it.</p>
      )}
      {record && (
        <div className={styles.record}>
          <CopyButton text={JSON.stringify(record, null, 2)} label="Copy as JSON" />
          <dl className={styles.facts}>
            {factsOf(record).map(([path, value]) => (
              <div key={path}>
                <dt>{path}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </div>
      )}
    </details>
  );
}
