import type { Shared_JobFragment } from "../api/Shared.generated";
import styles from "./JobProgress.module.css";
import { compact, duration } from "./numbers";
import { jobStatus } from "./words";

interface JobProgressProps {
  job: Pick<Shared_JobFragment, "status" | "progress" | "queuePosition" | "title">;
  /** With completed, rate and time left, where there is room. */
  detailed?: boolean;
}

/** A job's bar and how far it has got. */
export function JobProgress({ job, detailed = false }: JobProgressProps) {
  const { progress, queuePosition, status, title } = job;
  const isRunning = status === "RUNNING" || status === "CANCELING";
  const percent = `${Math.floor(progress.fraction * 100)}%`;
  const position = status === "QUEUED" && queuePosition ? `, ${queuePosition} before it` : "";
  return (
    <div className={styles.progress}>
      <span className={styles.line}>
        <span className={styles[status] ?? undefined}>
          {jobStatus(status)}
          {position}
        </span>
        {isRunning && <span>{percent}</span>}
      </span>
      {isRunning && (
        <progress
          className={styles.bar}
          max={1}
          value={progress.fraction}
          aria-label={`Progress: ${title}`}
        />
      )}
      {detailed && isRunning && (
        <span className={styles.line}>
          <span>
            {/* Until the first one is done nobody sees that anything happens: a model may have to be loaded. */}
            {progress.completed === 0 && "Getting ready… "}
            {compact(progress.completed)}
            {progress.total !== null && ` of ${compact(progress.total)}`} {progress.unit.toLowerCase()}
            {progress.ratePerSecond !== null && `, ${compact(progress.ratePerSecond)} per second`}
          </span>
          {progress.etaSeconds !== null && <span>{duration(progress.etaSeconds)} left</span>}
        </span>
      )}
    </div>
  );
}
