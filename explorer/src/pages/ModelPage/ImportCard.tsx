import { useState } from "react";
import { useLocation } from "wouter";
import { useAction } from "../../api/hooks";
import { useLaunchKey } from "../../api/launchKey";
import { Card } from "../../components/Card";
import { ErrorBox } from "../../components/ErrorBox";
import { ModelPageImportMutationDocument } from "./ImportCard.generated";
import { ImportForm } from "./ImportForm";
import { PublicSaes } from "./PublicSaes";
import type { Wanted } from "./wanted";

/** Takes over an SAE that somebody else has made, for this model. */
export function ImportCard({ modelId }: { modelId: string }) {
  const [, navigate] = useLocation();
  const { run, problem, running } = useAction(ModelPageImportMutationDocument);
  const launchKey = useLaunchKey();
  const [wanted, setWanted] = useState<Wanted | null>(null);
  const launch = async (asked: Wanted) => {
    setWanted(asked);
    const input = { ...asked, languageModelId: modelId };
    const launched = await run({ input: { ...input, idempotencyKey: launchKey(input) } });
    if (launched?.__typename === "JobLaunched") navigate(`/jobs/${launched.job.id}`);
  };
  return (
    <Card title="Import an SAE">
      <PublicSaes modelId={modelId} onImport={launch} disabled={running} />
      <details className="stack">
        <summary>Another one, from the Hub or this server's directories</summary>
        <ImportForm onImport={launch} disabled={running} />
      </details>
      {problem && wanted && <ErrorBox problem={problem} onRetry={() => launch(wanted)} />}
    </Card>
  );
}
