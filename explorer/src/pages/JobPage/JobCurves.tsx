import { lazy, Suspense, useMemo, useState } from "react";
import { Link } from "wouter";
import { PLAIN_VIEW } from "../../charts/curves/view";
import { Card } from "../../components/Card";

const TrainingCharts = lazy(() => import("../../charts/curves/TrainingCharts"));

/** How a training goes, live; whole again after a resume. */
export function JobCurves({ sae }: { sae: { id: string; name: string } }) {
  const [view, setView] = useState(PLAIN_VIEW);
  const { id, name } = sae;
  const saes = useMemo(() => [{ id, name }], [id, name]);
  return (
    <Card title="Curves" aside={<Link href={`/compare?sae=${id}`}>Compare with others</Link>}>
      <Suspense fallback={<p className="muted">Loading…</p>}>
        <TrainingCharts saes={saes} view={view} onView={setView} />
      </Suspense>
    </Card>
  );
}
