import { type FormEvent, useEffect, useState } from "react";
import { messageAt } from "../../api/problems";
import { useUpload } from "../../api/upload";
import { Checkbox, Select, TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { Field } from "../../components/Field";
import { bytes } from "../../components/numbers";
import { ACCEPTED, beginningOf } from "./files";
import { Look } from "./Look";
import { Sending } from "./Sending";
import {
  type UploadForm_PreviewFragment,
  UploadFormPreviewQueryDocument,
  UploadFormStoreMutationDocument,
} from "./UploadForm.generated";

interface UploadFormProps {
  /** Counts tokens with this language model's tokenizer. */
  languageModelId?: string | null;
  maxBytes?: number | undefined;
  onStored: (dataset: { id: string; name: string }) => void;
}

/** A file of texts: chosen, looked at, stored. */
export function UploadForm({ languageModelId = null, maxBytes, onStored }: UploadFormProps) {
  const [file, setFile] = useState<File | null>(null);
  const [textField, setTextField] = useState("text");
  const [skipBadRows, setSkipBadRows] = useState(false);
  const [name, setName] = useState("");
  const [found, setFound] = useState<UploadForm_PreviewFragment | null>(null);
  const look = useUpload(UploadFormPreviewQueryDocument, "dataset.upload.file");
  const store = useUpload(UploadFormStoreMutationDocument, "input.file");
  const { run: runLook } = look;

  useEffect(() => {
    if (!file) return;
    let isCurrent = true;
    const options = { textField, skipBadRows };
    // The file itself is put into its place by the upload.
    const dataset = { upload: { ...options, file: null as unknown as File } };
    const timer = setTimeout(async () => {
      const result = await runLook({ dataset, languageModelId }, await beginningOf(file));
      if (!isCurrent || result?.__typename !== "DatasetPreview") return;
      setFound(result);
      const { columns } = result;
      if (columns.length > 0 && !columns.includes(textField)) setTextField(likelyColumn(columns));
    }, 300);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [file, textField, skipBadRows, languageModelId, runLook]);

  const choose = (chosen: File | undefined) => {
    setFile(chosen ?? null);
    setFound(null);
    look.clear();
    store.clear();
  };
  const onSubmit = async (event: FormEvent) => {
    event.preventDefault();
    if (!file) return;
    const input = { textField, skipBadRows, file: null as unknown as File };
    const stored = await store.run({ input, name: name.trim() || null }, file);
    if (stored?.__typename !== "StoredDataset") return;
    choose(undefined);
    setName("");
    onStored(stored);
  };
  const problem = store.problem ?? look.problem;
  const isTooLarge = file !== null && maxBytes !== undefined && file.size > maxBytes;
  const nameError = messageAt(store.problem, "name");

  return (
    <form className="stack" onSubmit={onSubmit}>
      <Field
        label="File"
        hint={`.txt (a text a line), .csv, .tsv, .jsonl, .json, .parquet; also packed as .gz${
          maxBytes === undefined ? "" : `; at most ${bytes(maxBytes)}`
        }`}
        error={isTooLarge ? `This file has ${bytes(file.size)}.` : undefined}
      >
        {(control) => (
          <input
            {...control}
            type="file"
            accept={ACCEPTED}
            key={file === null ? "none" : "some"}
            onChange={(event) => choose(event.target.files?.[0])}
          />
        )}
      </Field>
      {file && (
        <>
          <p className="muted">
            {file.name}, {bytes(file.size)}
          </p>
          {(found === null || found.columns.length > 0 || !file.name.includes(".txt")) && (
            <Column value={textField} columns={found?.columns ?? []} onChange={setTextField} />
          )}
          <Checkbox
            label="Leave out bad rows (no text, too long, no valid Unicode), and count them"
            value={skipBadRows}
            onChange={setSkipBadRows}
          />
          <TextField
            label="Name"
            value={name}
            onChange={setName}
            placeholder={file.name}
            hint="The file's name if left out."
            error={nameError}
          />
          <Sending upload={look} what="Looking at it" />
          {found && <Look found={found} />}
          {problem && !nameError && <ErrorBox problem={problem} />}
          <Sending upload={store} what="Storing" />
          <div className="row">
            <button
              type="submit"
              className="primary"
              disabled={store.sent !== null || isTooLarge || Boolean(found?.problem)}
            >
              Store it
            </button>
            <button type="button" onClick={() => choose(undefined)}>
              Choose another
            </button>
          </div>
        </>
      )}
    </form>
  );
}

/** Returns the column that most probably has the texts. */
function likelyColumn(columns: readonly string[]): string {
  const likely = ["text", "content", "body", "sentence", "document", "prompt"];
  return likely.find((name) => columns.includes(name)) ?? columns[0] ?? "text";
}

interface ColumnProps {
  value: string;
  columns: readonly string[];
  onChange: (value: string) => void;
}

function Column({ value, columns, onChange }: ColumnProps) {
  const label = "Column with the texts";
  if (columns.length === 0) return <TextField label={label} value={value} onChange={onChange} />;
  const all = columns.includes(value) ? columns : [value, ...columns];
  const options = all.map((column) => ({ value: column, label: column }));
  return <Select label={label} value={value} options={options} onChange={onChange} />;
}
