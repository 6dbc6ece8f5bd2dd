import { Card } from "../../components/Card";
import { CopyLink } from "./CopyLink";
import { editWords } from "./edits";
import styles from "./PlayPage.module.css";
import { RunView } from "./RunView";
import type { PlaySettings } from "./settings";
import type { Run } from "./useGeneration";
import type { WhyAsked } from "./why";

interface EarlierRunsProps {
  saeId: string;
  runs: readonly Run[];
  nameOf: (index: number) => string;
  onUse: (settings: PlaySettings) => void;
  onWhy: (asked: WhyAsked) => void;
}

/** Runs since the page was opened, to compare them: any number can be open. */
export function EarlierRuns({ saeId, runs, nameOf, onUse, onWhy }: EarlierRunsProps) {
  if (runs.length === 0) return null;
  return (
    <Card title="Earlier runs" aside={<span className="muted">kept until you leave the page</span>}>
      {runs.map((run) => (
        <details key={run.number} className={styles.earlier}>
          <summary>
            Run {run.number}: {summary(run.settings, nameOf)}
          </summary>
          <div className={styles.group}>
            <p className={styles.prompt}>{run.settings.prompt}</p>
            <RunView {...{ run, saeId, nameOf, onWhy }} />
            <div className="row">
              <button type="button" onClick={() => onUse(run.settings)}>
                Use these settings
              </button>
              <CopyLink run={run} />
            </div>
          </div>
        </details>
      ))}
    </Card>
  );
}

function summary({ edits, temperature }: PlaySettings, nameOf: (index: number) => string): string {
  const parts = edits.map((edit) => `${nameOf(edit.index)} ${editWords(edit)}`);
  const heat = temperature ? `, temperature ${temperature}` : "";
  return (parts.length > 0 ? parts.join(", ") : "no edits") + heat;
}
