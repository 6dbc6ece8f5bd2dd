import type { ReactNode } from "react";
import { LaunchIndex } from "../SaePage/LaunchIndex";

/** Says why something is not known, and makes the index anew. */
export function Renew({ saeId, children }: { saeId: string; children: ReactNode }) {
  return (
    <div className="row">
      <p className="muted">{children}</p>
      <LaunchIndex saeId={saeId} label="Index the neurons again" />
    </div>
  );
}
