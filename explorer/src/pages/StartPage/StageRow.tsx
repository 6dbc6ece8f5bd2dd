import type { ReactNode } from "react";
import { Link } from "wouter";
import type { Shared_JobFragment } from "../../api/Shared.generated";
import { ErrorBox } from "../../components/ErrorBox";
import { JobProgress } from "../../components/JobProgress";
import { JobActions } from "../JobPage/JobActions";
import styles from "./Progress.module.css";

interface StageRowProps {
  title: string;
  /** What it is for, in a sentence. */
  what: string;
  job: Shared_JobFragment | null | undefined;
  /** Whether the job should be there. */
  launched: boolean;
  /** Figures beside its progress. */
  children?: ReactNode;
}

/** One job of the way: what it is for, how far it is, what goes on, what to do if it failed. */
export function StageRow({ title, what, job, launched, children }: StageRowProps) {
  const isGone = launched && job === null;
  return (
    <li className={styles.stage} data-status={job?.status}>
      <span className="row">
        <strong>{title}</strong>
        <span className="muted">{what}</span>
      </span>
      {job ? (
        <>
          <JobProgress job={job} detailed />
          {job.status === "RUNNING" && job.stage && <span>{job.stage}</span>}
          {children}
          {job.error && (
            <ErrorBox
              problem={{ title: "What went wrong", message: job.error, fields: [], retryAfter: null }}
            />
          )}
          <span className="row">
            <Link href={`/jobs/${job.id}`}>Job and log</Link>
            {job.status !== "SUCCEEDED" && <JobActions job={job} />}
          </span>
        </>
      ) : (
        <span className="muted">
          {isGone ? "This job has been deleted." : launched ? "Loading…" : "Comes later"}
        </span>
      )}
    </li>
  );
}
