import { type FormEvent, useState } from "react";
import { Select, TextField } from "../../components/controls";
import type { Wanted } from "./wanted";

const PLACES = [
  { value: "hub", label: "A repository of the Hugging Face Hub" },
  { value: "server", label: "A directory or file of this server" },
] as const;

interface ImportFormProps {
  onImport: (wanted: Wanted) => void;
  disabled: boolean;
}

/** Where an SAE lies that no list has. */
export function ImportForm({ onImport, disabled }: ImportFormProps) {
  const [place, setPlace] = useState<(typeof PLACES)[number]["value"]>("hub");
  const [repository, setRepository] = useState("");
  const [path, setPath] = useState("");
  const [layer, setLayer] = useState("");
  const isHub = place === "hub";
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    const source = isHub
      ? { huggingFace: { repository: repository.trim(), path: path.trim() } }
      : { path: path.trim() };
    onImport({ source, ...(layer.trim() && { layer: layer.trim() }) });
  };
  const isComplete = isHub ? repository.trim() !== "" : path.trim() !== "";
  return (
    <form className="stack" onSubmit={onSubmit}>
      <Select label="Where it lies" value={place} options={PLACES} onChange={setPlace} />
      {isHub && (
        <TextField label="Repository" placeholder="owner/name" value={repository} onChange={setRepository} />
      )}
      <TextField
        label={isHub ? "Directory or file in it" : "Path"}
        hint={isHub ? "All of the repository if left out." : "Under one of the server's model directories."}
        value={path}
        onChange={setPath}
      />
      <TextField
        label="Layer"
        hint="The one that its files name, if left out."
        value={layer}
        onChange={setLayer}
      />
      <div>
        <button type="submit" className="primary" disabled={disabled || !isComplete}>
          Import
        </button>
      </div>
    </form>
  );
}
