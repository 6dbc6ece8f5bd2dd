import type { ReactNode } from "react";
import { Link } from "wouter";
import type { Answer } from "../../api/hooks";
import { laterOf, useLiveJobs } from "../../api/liveJobs";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { JobProgress } from "../../components/JobProgress";
import { PageHeading } from "../../components/PageHeading";
import type { SaePage_StateFragment } from "./SaePage.generated";

interface SaeGateProps {
  /** Of the page while the SAE cannot be shown. */
  title: string;
  answer: Pick<Answer<unknown>, "data" | "problem" | "reload">;
  sae: SaePage_StateFragment | null | undefined;
  /** With a heading of its own; shown where the SAE can be used. */
  children: ReactNode;
}

/** Shows a page of an SAE, or why there is nothing to show yet: loading, missing, being made, failed. */
export function SaeGate({ title, answer, sae, children }: SaeGateProps) {
  const problem = answer.problem && <ErrorBox problem={answer.problem} onRetry={answer.reload} />;
  if (!sae) {
    const isMissing = sae === null;
    return (
      <>
        <PageHeading title={isMissing ? "There is no such SAE" : title} />
        {problem}
        {isMissing && <Empty next={{ href: "/", label: "All SAEs" }}>It may have been deleted.</Empty>}
        {!isMissing && !problem && <p className="muted">Loading…</p>}
      </>
    );
  }
  if (sae.status === "READY") {
    return (
      <>
        {children}
        {problem}
      </>
    );
  }
  if (sae.status === "PARTIAL") {
    return (
      <>
        <div className="row" role="note">
          <span>{REASONS.PARTIAL}</span>
          {sae.job && <Link href={`/jobs/${sae.job.id}`}>See its job</Link>}
        </div>
        {children}
        {problem}
      </>
    );
  }
  return (
    <>
      <PageHeading title={sae.name} />
      {problem}
      <Making sae={sae} />
    </>
  );
}

const REASONS: Record<SaePage_StateFragment["status"], string> = {
  READY: "",
  PENDING: "The job that makes it waits for its turn.",
  BUILDING: "It is being made. This page shows it as soon as it is there.",
  PARTIAL:
    "The job that makes this SAE has stopped before its end. What was finished is here; retry the job to go on.",
  FAILED: "Its job has failed, or its files are gone.",
};

function Making({ sae: { status, job } }: { sae: SaePage_StateFragment }) {
  const live = useLiveJobs();
  const now = job && laterOf(job, live.get(job.id));
  return (
    <Card title={status === "FAILED" ? "This SAE cannot be used" : "This SAE is not complete"}>
      <p>{REASONS[status]}</p>
      {now && <JobProgress job={now} detailed />}
      {now?.error && (
        <ErrorBox problem={{ title: "What went wrong", message: now.error, fields: [], retryAfter: null }} />
      )}
      <p>
        {now ? (
          <Link href={`/jobs/${now.id}`} className="button primary">
            {status === "FAILED" ? "See its job, and retry it" : "Watch its job"}
          </Link>
        ) : (
          <Link href="/train" className="button">
            Train another SAE
          </Link>
        )}
      </p>
    </Card>
  );
}
