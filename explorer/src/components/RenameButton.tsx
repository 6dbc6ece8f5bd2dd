import { type FormEvent, useState } from "react";
import { useAction } from "../api/hooks";
import { messageAt } from "../api/problems";
import { TextField } from "./controls";
import { Dialog } from "./Dialog";
import { ErrorBox } from "./ErrorBox";
import { RenameButtonMutationDocument } from "./RenameButton.generated";

/** Names a language model, run, SAE, concept config or dataset anew. */
export function RenameButton({ id, name }: { id: string; name: string }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <button type="button" onClick={() => setOpen(true)} aria-label={`Rename ${name}`}>
        Rename
      </button>
      {isOpen && <RenameDialog id={id} name={name} onClose={() => setOpen(false)} />}
    </>
  );
}

function RenameDialog({ id, name, onClose }: { id: string; name: string; onClose: () => void }) {
  const [value, setValue] = useState(name);
  const { run, problem, running } = useAction(RenameButtonMutationDocument);
  const save = async (event: FormEvent) => {
    event.preventDefault();
    if (await run({ id, name: value })) onClose();
  };
  const error = messageAt(problem, "name");
  return (
    <Dialog title={`Rename ${name}`} onClose={onClose}>
      <form onSubmit={save} className="stack">
        <TextField label="Name" value={value} onChange={setValue} error={error} />
        {problem && !error && <ErrorBox problem={problem} />}
        <div className="row">
          <button type="submit" className="primary" disabled={running || value.trim() === ""}>
            Save
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}
