import { useState } from "react";
import { useUpload } from "../../api/upload";
import { TextArea, TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { whole } from "../../components/numbers";
import { fileOfTexts, textsOf } from "./files";
import { Sending } from "./Sending";
import { UploadFormStoreMutationDocument } from "./UploadForm.generated";

interface OwnTextsProps {
  onStored: (dataset: { id: string; name: string }) => void;
}

/** Texts that are typed; they are stored, so that a reload and later evaluations have them. */
export function OwnTexts({ onStored }: OwnTextsProps) {
  const [typed, setTyped] = useState("");
  const [name, setName] = useState("My texts");
  const store = useUpload(UploadFormStoreMutationDocument, "input.file");
  const { length } = textsOf(typed);
  const save = async () => {
    const input = { file: null as unknown as File };
    const stored = await store.run({ input, name: name.trim() || null }, fileOfTexts(typed));
    if (stored?.__typename === "StoredDataset") onStored(stored);
  };
  return (
    <div className="stack">
      <TextArea
        label="Texts"
        rows={8}
        value={typed}
        onChange={setTyped}
        hint={`Blank lines separate texts; without blank lines each line is one. ${whole(length)} so far.`}
      />
      <TextField label="Name" value={name} onChange={setName} />
      {store.problem && <ErrorBox problem={store.problem} />}
      <Sending upload={store} what="Storing" />
      <div>
        <button type="button" disabled={length === 0 || store.sent !== null} onClick={save}>
          Use these texts
        </button>
      </div>
    </div>
  );
}
