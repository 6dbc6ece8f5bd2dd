import { CopyButton } from "../../components/CopyButton";
import { linkOf } from "./runLink";
import type { Run } from "./useGeneration";

/** Copies the link that reproduces a run, once its seed is known. */
export function CopyLink({ run }: { run: Run }) {
  if (run.state.seed === null) return null;
  const link = linkOf(run);
  if (link === null) return <span className="muted">The prompt is too long for a link.</span>;
  return <CopyButton text={link} label="Copy link" />;
}
