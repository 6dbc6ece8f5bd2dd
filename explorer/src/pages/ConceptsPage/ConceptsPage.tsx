import { useState } from "react";
import { Link, useParams } from "wouter";
import { useData } from "../../api/hooks";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { whole } from "../../components/numbers";
import { PageHeading } from "../../components/PageHeading";
import { SaeGate } from "../SaePage/SaeGate";
import { ConceptsPageQueryDocument } from "./ConceptsPage.generated";
import { Export } from "./Export";
import { Import } from "./Import";
import { Names } from "./Names";

/** The names of an SAE's neurons: to find, change, take in and give out. */
export default function ConceptsPage() {
  const { id } = useParams<{ id: string }>();
  const answer = useData(ConceptsPageQueryDocument, { saeId: id });
  const [isImporting, setImporting] = useState(false);
  const { sae } = answer.data ?? {};
  const total = sae?.concepts.totalCount ?? 0;
  return (
    <SaeGate title="Names" answer={answer} sae={sae}>
      {sae && (
        <>
          <nav aria-label="This SAE">
            <Link href={`/saes/${sae.id}`}>{sae.name}</Link>
          </nav>
          <PageHeading title={`Names of ${sae.name}`}>
            <button
              type="button"
              onClick={() => setImporting((before) => !before)}
              aria-expanded={isImporting}
            >
              Import
            </button>
            {total > 0 && <Export saeId={sae.id} name={sae.name} total={total} />}
          </PageHeading>
          {isImporting && <Import saeId={sae.id} latentCount={sae.latentCount ?? 0} />}
          {total === 0 ? (
            <Card title="Nobody has named a neuron yet">
              <Empty
                next={{ href: `/saes/${sae.id}?order=MAX_ACTIVATION_DESC&dead=no`, label: "Look at neurons" }}
              >
                Open a neuron and say what makes it fire, or import names.
              </Empty>
            </Card>
          ) : (
            <Card title="Names" aside={<span className="muted">{whole(total)} in all</span>}>
              <Names saeId={sae.id} hasFigures={sae.neuronIndex?.status === "READY"} />
            </Card>
          )}
        </>
      )}
    </SaeGate>
  );
}
