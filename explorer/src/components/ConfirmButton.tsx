import { type ReactNode, useState } from "react";
import type { Problem } from "../api/problems";
import { Dialog } from "./Dialog";
import { ErrorBox } from "./ErrorBox";

interface ConfirmButtonProps {
  label: string;
  /** The dialog's title, a question. */
  question: string;
  /** What comes of it. */
  children: ReactNode;
  /** Resolves to whether it is done; if not, the dialog stays with the problem. */
  onConfirm: () => Promise<boolean>;
  problem: Problem | null;
  running: boolean;
}

/** A button for what cannot be undone: it asks first. */
export function ConfirmButton(props: ConfirmButtonProps) {
  const { label, question, children, onConfirm, problem, running } = props;
  const [isOpen, setOpen] = useState(false);
  const confirm = async () => {
    if (await onConfirm()) setOpen(false);
  };
  return (
    <>
      <button type="button" onClick={() => setOpen(true)}>
        {label}
      </button>
      {isOpen && (
        <Dialog title={question} onClose={() => setOpen(false)}>
          <div>{children}</div>
          {problem && <ErrorBox problem={problem} />}
          <div className="row">
            <button type="button" className="primary" disabled={running} onClick={confirm}>
              {label}
            </button>
            <button type="button" onClick={() => setOpen(false)}>
              Keep it
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
