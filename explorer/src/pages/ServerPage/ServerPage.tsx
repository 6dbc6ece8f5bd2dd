import { Link } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { type Column, DataTable } from "../../components/DataTable";
import { ErrorBox } from "../../components/ErrorBox";
import { PageHeading } from "../../components/PageHeading";
import { Properties } from "../../components/Properties";
import { Time } from "../../components/Time";
import { Disk } from "./Disk";
import { limitsOf } from "./limits";
import { Queue } from "./Queue";
import { type ServerPageQuery, ServerPageQueryDocument } from "./ServerPage.generated";
import { useServerStatus } from "./useServerStatus";
import { WorkerTable } from "./WorkerTable";

type SaeClass = ServerPageQuery["server"]["saeClassInfos"][number];

const CLASS_COLUMNS: readonly Column<SaeClass>[] = [
  { key: "name", title: "Class", cell: ({ name }) => <code>{name}</code> },
  { key: "description", title: "What it is", cell: ({ description }) => description },
  { key: "source", title: "From", cell: ({ builtIn }) => (builtIn ? "built in" : "package") },
];

/** How the server is, live, and what it can do. */
export default function ServerPage() {
  const { data, problem, reload } = useData(ServerPageQueryDocument, {});
  const live = useServerStatus();
  const status = live ?? data?.server.status;
  const server = data?.server;
  return (
    <>
      <PageHeading title="Server" />
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {!status && !problem && <p className="muted">Loading…</p>}
      {server && status && (
        <Card title="Now" aside={<Link href="/jobs">All jobs</Link>}>
          <Queue status={status} limits={server.limits} />
          <Properties
            of={[
              ["Version", server.version],
              ["Running since", <Time key="since" at={status.startedAt} />],
              ["Devices", server.devices.join(", ")],
              ["Hugging Face Hub", server.hubEnabled ? "allowed" : "not allowed"],
              ["Interrupted jobs", server.resumesJobs ? "go on by themselves" : "wait for a retry"],
            ]}
          />
        </Card>
      )}
      {status && (
        <>
          <Card title="Workers">
            <WorkerTable workers={status.workers} />
          </Card>
          <Disk status={status} />
        </>
      )}
      {server && (
        <>
          <Card title="Limits">
            <Properties of={limitsOf(server.limits)} />
          </Card>
          <Card title="SAE classes">
            <DataTable
              caption="SAE classes"
              columns={CLASS_COLUMNS}
              rows={server.saeClassInfos}
              rowKey={({ name }) => name}
              empty={null}
            />
          </Card>
        </>
      )}
    </>
  );
}
