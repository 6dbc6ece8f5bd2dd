import { useState } from "react";
import { useClient } from "urql";
import { type Problem, problemOf } from "../../api/problems";
import { ErrorBox } from "../../components/ErrorBox";
import { whole } from "../../components/numbers";
import { ConceptsPageExportQueryDocument } from "./ConceptsPage.generated";
import { type ExportedName, fileOf } from "./exported";

interface ExportProps {
  saeId: string;
  name: string;
  total: number;
}

/** All names as a file, in the forms that an import takes. */
export function Export({ saeId, name, total }: ExportProps) {
  const client = useClient();
  const [loaded, setLoaded] = useState<number | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);

  const pageAfter = (after: string | null) =>
    client
      .query(ConceptsPageExportQueryDocument, { saeId, after }, { requestPolicy: "network-only" })
      .toPromise();
  const save = async (format: "csv" | "json") => {
    setProblem(null);
    const names: ExportedName[] = [];
    let after: string | null = null;
    do {
      setLoaded(names.length);
      const { data, error } = await pageAfter(after);
      const page = data?.sae?.concepts;
      if (!page) {
        setProblem(error ? problemOf(error) : null);
        break;
      }
      names.push(...page.nodes.map((one) => ({ ...one, index: one.neuron.index })));
      after = page.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
      if (after === null) download(fileOf(names, format), `${name}-names.${format}`, format);
    } while (after !== null);
    setLoaded(null);
  };
  return (
    <>
      {(["csv", "json"] as const).map((format) => (
        <button key={format} type="button" disabled={loaded !== null} onClick={() => save(format)}>
          Export {format.toUpperCase()}
        </button>
      ))}
      <span role="status" className="muted">
        {loaded !== null && `${whole(loaded)} of ${whole(total)}…`}
      </span>
      {problem && <ErrorBox problem={problem} />}
    </>
  );
}

function download(text: string, filename: string, format: "csv" | "json"): void {
  const url = URL.createObjectURL(
    new Blob([text], { type: format === "csv" ? "text/csv" : "application/json" }),
  );
  const link = document.createElement("a");
  link.href = url;
  link.download = filename.replaceAll(/[\\/:*?"<>|]/g, "_");
  link.click();
  URL.revokeObjectURL(url);
}
