import { Link } from "wouter";
import { useData } from "../../api/hooks";
import { laterOf, useKnownJobs } from "../../api/liveJobs";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { ErrorBox } from "../../components/ErrorBox";
import { bytes, whole } from "../../components/numbers";
import { PageHeading } from "../../components/PageHeading";
import { JobTable } from "../JobsPage/JobTable";
import { HomePageQueryDocument } from "./HomePage.generated";
import { ModelTable } from "./ModelTable";
import { RunTable } from "./RunTable";
import { SaeList } from "./SaeList";

/** What is here: SAEs, running jobs, runs, models, and the disk. */
export default function HomePage() {
  const answer = useData(HomePageQueryDocument, {});
  const live = useKnownJobs();
  const { data, problem, reload } = answer;
  const jobs = data?.jobs.nodes.map((job) => laterOf(job, live.get(job.id)));
  const isEmpty = data && data.languageModels.length === 0;

  return (
    <>
      <PageHeading title="Home">{data && <Disk {...data.server.status} />}</PageHeading>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {isEmpty && (
        <Card title="Nothing here yet">
          <p>
            An SAE takes four steps: a language model, its activations on some texts, a training, an index of
            its neurons.
          </p>
          <p>
            <Link href="/start" className="button primary">
              Make a first SAE
            </Link>
          </p>
        </Card>
      )}
      {jobs && jobs.length > 0 && (
        <Card title="Unfinished jobs" aside={<Link href="/jobs">All jobs</Link>}>
          <JobTable rows={jobs} answer={answer} empty={null} />
        </Card>
      )}
      {!isEmpty && (
        <>
          <Card title="SAEs" aside={<Total of={data?.saes.totalCount} />}>
            <SaeList first={data?.saes} />
          </Card>
          <Card title="Activation runs" aside={<Total of={data?.activationRuns.totalCount} />}>
            <RunTable rows={data?.activationRuns.nodes} />
          </Card>
          <Card title="Language models" aside={<Total of={data?.languageModels.length} />}>
            <ModelTable rows={data?.languageModels} />
          </Card>
        </>
      )}
      {data && jobs?.length === 0 && (
        <Empty next={{ href: "/jobs", label: "Earlier jobs" }}>No job is running.</Empty>
      )}
    </>
  );
}

function Total({ of }: { of: number | undefined }) {
  return of === undefined ? null : <span className="muted">{whole(of)} in all</span>;
}

interface DiskProps {
  artifactBytes: number | null;
  artifactByteLimit: number | null;
  freeBytes: number;
}

function Disk({ artifactBytes, artifactByteLimit, freeBytes }: DiskProps) {
  return (
    <span className="muted">
      {artifactBytes !== null && `${bytes(artifactBytes)} of artifacts`}
      {artifactByteLimit !== null && ` of at most ${bytes(artifactByteLimit)}`}
      {`, ${bytes(freeBytes)} free`}
    </span>
  );
}
