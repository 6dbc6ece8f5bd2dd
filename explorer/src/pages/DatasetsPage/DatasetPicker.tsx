import { useData } from "../../api/hooks";
import { Select, TextField } from "../../components/controls";
import { whole } from "../../components/numbers";
import { DatasetPickerQueryDocument } from "./DatasetPicker.generated";
import styles from "./DatasetPicker.module.css";
import { type DatasetChoice, NEW_FILE, NEW_HUB, PYTHON_REFERENCE } from "./datasetChoice";
import { OwnTexts } from "./OwnTexts";
import { UploadForm } from "./UploadForm";

export type Kind = DatasetChoice["kind"] | "own" | "upload";

interface DatasetPickerProps {
  choice: DatasetChoice;
  onChange: (choice: DatasetChoice) => void;
  /** The way of giving texts that is shown; own texts and uploads end as a stored dataset. */
  kind: Kind;
  onKind: (kind: Kind) => void;
  languageModelId: string | null;
  /** What is wrong with the texts, in the API's words. */
  error?: string | undefined;
}

const TITLES: Record<Kind, { title: string; hint: string }> = {
  builtIn: { title: "Python reference", hint: "Prose that every server has; good for a first try." },
  stored: { title: "Stored dataset", hint: "Uploaded before." },
  own: { title: "Own texts", hint: "Typed or pasted." },
  upload: { title: "Upload a file", hint: "Texts, CSV, JSON, Parquet." },
  hub: { title: "Hugging Face Hub", hint: "By the dataset's name." },
  file: { title: "File on the server", hint: "By its path." },
};

/** Which texts: built in, stored, typed, uploaded, of the Hub, or a file beside the server. */
export function DatasetPicker(props: DatasetPickerProps) {
  const { choice, onChange, kind, onKind, languageModelId, error } = props;
  const { data } = useData(DatasetPickerQueryDocument, {});
  const stored = data?.datasets.nodes.filter(({ status }) => status === "READY") ?? [];
  const kinds = (Object.keys(TITLES) as Kind[]).filter(
    (one) =>
      (one !== "stored" || stored.length > 0 || kind === "stored") &&
      (one !== "hub" || data?.server.hubEnabled),
  );
  const select = (next: Kind) => {
    onKind(next);
    if (next === "builtIn") onChange(PYTHON_REFERENCE);
    if (next === "hub") onChange(NEW_HUB);
    if (next === "file") onChange(NEW_FILE);
    const [newest] = stored;
    if (next === "stored" && newest) onChange({ kind: "stored", id: newest.id });
  };
  const onStored = ({ id }: { id: string }) => {
    onChange({ kind: "stored", id });
    onKind("stored");
  };

  return (
    <div className="stack">
      <fieldset className={styles.kinds}>
        <legend className="hidden-visually">Texts</legend>
        {kinds.map((one) => (
          <label key={one} className={styles.kind}>
            <input type="radio" name="texts" checked={kind === one} onChange={() => select(one)} />
            <span>
              {TITLES[one].title}
              <span className={styles.hint}>{TITLES[one].hint}</span>
            </span>
          </label>
        ))}
      </fieldset>
      {kind === "stored" && choice.kind === "stored" && (
        <Select
          label="Dataset"
          value={choice.id}
          options={stored.map(({ id, name, sampleCount }) => ({
            value: id,
            label: `${name} (${whole(sampleCount)} texts)`,
          }))}
          onChange={(id) => onChange({ kind: "stored", id })}
          error={error}
        />
      )}
      {kind === "own" && <OwnTexts onStored={onStored} />}
      {kind === "upload" && <UploadForm languageModelId={languageModelId} onStored={onStored} />}
      {kind === "hub" && choice.kind === "hub" && (
        <div className={styles.fields}>
          <TextField
            label="Repository"
            placeholder="owner/name"
            value={choice.repository}
            onChange={(repository) => onChange({ ...choice, repository })}
            error={error}
          />
          <TextField
            label="Configuration"
            placeholder="none"
            value={choice.config}
            onChange={(config) => onChange({ ...choice, config })}
          />
          <TextField
            label="Split"
            value={choice.split}
            onChange={(split) => onChange({ ...choice, split })}
          />
          <TextField
            label="Column with the texts"
            value={choice.textField}
            onChange={(textField) => onChange({ ...choice, textField })}
          />
        </div>
      )}
      {kind === "file" && choice.kind === "file" && (
        <div className={styles.fields}>
          <TextField
            label="Path"
            hint="Under one of the server's dataset directories."
            value={choice.path}
            onChange={(path) => onChange({ ...choice, path })}
            error={error}
          />
          <TextField
            label="Column with the texts"
            value={choice.textField}
            onChange={(textField) => onChange({ ...choice, textField })}
          />
        </div>
      )}
    </div>
  );
}
