import { type FormEvent, useMemo, useState } from "react";
import { useAction } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Select, TextArea } from "../../components/controls";
import { type Column, DataTable } from "../../components/DataTable";
import { ErrorBox } from "../../components/ErrorBox";
import { Field } from "../../components/Field";
import { whole } from "../../components/numbers";
import type { ImportMode } from "../../generated/types";
import { ConceptsPageImportMutationDocument } from "./ConceptsPage.generated";
import { type PreviewRow, previewOf, textOf } from "./imported";

const MODES = [
  { value: "MERGE", label: "Keep what is there; a higher score wins" },
  { value: "REPLACE", label: "Remove imported and generated names first" },
] as const satisfies readonly { value: ImportMode; label: string }[];

/** A longer text is not shown in the field, which would make typing slow. */
const MAX_SHOWN = 100_000;

const COLUMNS: readonly Column<PreviewRow>[] = [
  { key: "place", title: "Where", cell: ({ place }) => place },
  { key: "index", title: "Neuron", cell: ({ index }) => index },
  { key: "name", title: "Name", cell: ({ name }) => name },
  { key: "score", title: "Score", cell: ({ score }) => score || "–" },
  { key: "problem", title: "Check", cell: ({ problem }) => (problem === null ? "fine" : "wrong") },
];

/** Takes names from a file or pasted text, which is looked at before; the server names each row that it refuses. */
export function Import({ saeId, latentCount }: { saeId: string; latentCount: number }) {
  const [text, setText] = useState("");
  const [mode, setMode] = useState<ImportMode>("MERGE");
  const [done, setDone] = useState<string | null>(null);
  const { run, running, problem, clear } = useAction(ConceptsPageImportMutationDocument);
  const preview = useMemo(() => (text.trim() ? previewOf(text, latentCount) : null), [text, latentCount]);
  const change = (next: string) => {
    setText(next);
    setDone(null);
    clear();
  };
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const source = preview?.format === "json" ? { json: text } : { csv: text };
    const result = await run({ input: { saeId, source, mode } });
    if (!result) return;
    setText("");
    setDone(
      `${whole(result.importedCount)} names are in; ${whole(result.skippedCount)} neurons kept what they had.`,
    );
  };
  return (
    <Card title="Import names">
      <form className="stack" onSubmit={submit}>
        <Field
          label="File"
          hint="CSV with the columns neuron_idx, concept_name and score, mi_crow's concepts.json, or Neuronpedia's explanations as JSON lines. Names that people have given stay."
        >
          {(control) => (
            <input
              {...control}
              type="file"
              accept=".csv,.json,.jsonl,.gz,.txt,text/csv,application/json"
              onChange={async ({ target }) => {
                const [file] = target.files ?? [];
                if (file) change(await textOf(file));
              }}
            />
          )}
        </Field>
        {text.length <= MAX_SHOWN ? (
          <TextArea label="Or paste it" value={text} rows={4} onChange={change} />
        ) : (
          <p className="muted">{whole(text.length)} characters are read; too many to show here.</p>
        )}
        {preview && (
          <>
            <DataTable
              caption="The first rows"
              columns={COLUMNS}
              rows={preview.rows}
              rowKey={({ place }) => place}
              empty={<p className="muted">There is no row in it.</p>}
            />
            <p className="muted">
              {preview.count !== null &&
                `${whole(preview.count)} rows in all, read as ${preview.format.toUpperCase()}.`}
            </p>
            {preview.problems.length > 0 && !problem && (
              <ErrorBox
                problem={{
                  title: "Some rows will be refused",
                  message: preview.problems.join(" "),
                  fields: [],
                  retryAfter: null,
                }}
              />
            )}
          </>
        )}
        <div className="row">
          <Select label="What is there" value={mode} options={MODES} onChange={setMode} />
        </div>
        {problem && <ErrorBox problem={problem} />}
        <div className="row">
          <button type="submit" className="primary" disabled={running || !preview?.count}>
            Import
          </button>
          <span role="status">{done}</span>
        </div>
      </form>
    </Card>
  );
}
