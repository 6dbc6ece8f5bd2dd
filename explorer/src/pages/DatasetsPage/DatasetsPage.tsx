import { Link, useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { whole } from "../../components/numbers";
import { PageHeading } from "../../components/PageHeading";
import { DatasetsPageLimitQueryDocument, DatasetsPageQueryDocument } from "./DatasetsPage.generated";
import { DatasetTable } from "./DatasetTable";
import { StoredTexts } from "./StoredTexts";
import { UploadForm } from "./UploadForm";
import { usesOf } from "./uses";

/** The stored datasets: upload, look, use, rename, delete. */
export default function DatasetsPage() {
  const [search, setSearch] = useSearchParams();
  const after = search.get("after");
  const shown = search.get("dataset");
  const answer = useData(DatasetsPageQueryDocument, { after });
  const limit = useData(DatasetsPageLimitQueryDocument, {}, { policy: "cache-first" });
  const { data } = answer;
  const datasets = data?.datasets;
  const end = datasets?.pageInfo.hasNextPage ? datasets.pageInfo.endCursor : null;
  const show = (id: string | null) => setSearch(id ? { dataset: id } : {});

  return (
    <>
      <PageHeading title="Datasets" />
      {shown && <StoredTexts key={shown} id={shown} onClose={() => show(null)} />}
      <Card
        title="Stored datasets"
        aside={datasets && <span className="muted">{whole(datasets.totalCount)} in all</span>}
      >
        <DatasetTable
          rows={datasets?.nodes}
          uses={usesOf(data?.activationRuns.nodes ?? [])}
          answer={answer}
          empty={
            <Empty next={{ href: "/capture", label: "Capture without one" }}>
              Nothing is stored yet. Upload a file below, or use the built-in texts.
            </Empty>
          }
          onShow={show}
          onDeleted={(id) => id === shown && show(null)}
        />
        {data && data.activationRuns.totalCount > data.activationRuns.nodes.length && (
          <p className="muted">
            Uses are those of the newest {data.activationRuns.nodes.length} of{" "}
            {whole(data.activationRuns.totalCount)} runs.
          </p>
        )}
        <div className="row">
          {after && <Link href="/datasets">Newest</Link>}
          {end && <Link href={`/datasets?${new URLSearchParams({ after: end })}`}>Older</Link>}
        </div>
      </Card>
      <Card title="Upload">
        <UploadForm
          maxBytes={limit.data?.server.limits.maxUploadBytes}
          onStored={({ id }) => {
            answer.reload();
            show(id);
          }}
        />
      </Card>
    </>
  );
}
