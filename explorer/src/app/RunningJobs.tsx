import { Link } from "wouter";
import { isFinished } from "../api/jobFeed";
import { useLiveJobs } from "../api/liveJobs";
import styles from "./RunningJobs.module.css";

/** How many jobs run or wait, with a bar of those that run; leads to the one, or to all. */
export function RunningJobs() {
  const unfinished = [...useLiveJobs().values()].filter((job) => !isFinished(job));
  const running = unfinished.filter((job) => job.status !== "QUEUED");
  if (unfinished.length === 0) return null;
  const [only] = unfinished.length === 1 ? unfinished : [];
  const waiting = unfinished.length - running.length;
  const fraction = running.reduce((sum, job) => sum + job.progress.fraction, 0) / Math.max(1, running.length);
  return (
    <Link href={only ? `/jobs/${only.id}` : "/jobs"} className={styles.jobs} title={only?.title}>
      <span>
        {running.length} running{waiting > 0 && `, ${waiting} waiting`}
      </span>
      <progress className={styles.bar} max={1} value={fraction} aria-label="Progress of running jobs" />
    </Link>
  );
}
