import { type FormEvent, useState } from "react";
import { Link, useLocation } from "wouter";
import { useAction } from "../../api/hooks";
import { TextField } from "../../components/controls";
import { Dialog } from "../../components/Dialog";
import { ErrorBox } from "../../components/ErrorBox";
import { PageHeading } from "../../components/PageHeading";
import { SaePageDeleteMutationDocument, SaePageRenameMutationDocument } from "./SaePage.generated";
import { TextForm } from "./TextForm";

interface SaeHeaderProps {
  sae: { id: string; name: string; status: string; job: { id: string } | null };
}

/** The SAE's name, where to go from it, and what can be done to it as a whole. */
export function SaeHeader({ sae }: SaeHeaderProps) {
  const [isOpen, setOpen] = useState<"rename" | "delete" | null>(null);
  const close = () => setOpen(null);
  const at = `/saes/${sae.id}`;
  return (
    <>
      <PageHeading title={sae.name}>
        <button type="button" className="plain" onClick={() => setOpen("rename")}>
          Rename
        </button>
        <button type="button" className="plain" onClick={() => setOpen("delete")}>
          Delete
        </button>
      </PageHeading>
      <nav className="row" aria-label="This SAE">
        <Link href={`${at}/play`} className="button primary">
          Play
        </Link>
        <Link href={`${at}/contrast`} className="button">
          Contrast texts
        </Link>
        <Link href={`${at}/concepts`} className="button">
          Names
        </Link>
        <Link href={`/compare?sae=${sae.id}`} className="button">
          Compare
        </Link>
        {sae.job && <Link href={`/jobs/${sae.job.id}`}>How it was made</Link>}
      </nav>
      {isOpen === "rename" && <Rename {...sae} onClose={close} />}
      {isOpen === "delete" && <Delete {...sae} onClose={close} />}
    </>
  );
}

interface Of {
  id: string;
  name: string;
  onClose: () => void;
}

function Rename({ id, name, onClose }: Of) {
  const { run, running, problem } = useAction(SaePageRenameMutationDocument);
  const save = async (next: string) => {
    if (await run({ id, name: next })) onClose();
  };
  return (
    <Dialog title="Rename this SAE" onClose={onClose}>
      <TextForm label="Name" value={name} action="Rename" disabled={running} onSave={save} />
      {problem && <ErrorBox problem={problem} />}
    </Dialog>
  );
}

function Delete({ id, name, onClose }: Of) {
  const [, navigate] = useLocation();
  const [typed, setTyped] = useState("");
  const { run, running, problem } = useAction(SaePageDeleteMutationDocument);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (await run({ id })) navigate("/");
  };
  return (
    <Dialog title="Delete this SAE" onClose={onClose}>
      <form className="stack" onSubmit={submit}>
        <p>Its weights, index, names, configs and evaluations go with it. This cannot be undone.</p>
        <TextField label={`Type its name: ${name}`} value={typed} onChange={setTyped} />
        <p>
          <button type="submit" disabled={running || typed.trim() !== name.trim()}>
            Delete it
          </button>
        </p>
      </form>
      {problem && <ErrorBox problem={problem} />}
    </Dialog>
  );
}
