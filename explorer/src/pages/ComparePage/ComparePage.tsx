import { lazy, Suspense, useMemo } from "react";
import { useSearchParams } from "wouter";
import { useData } from "../../api/hooks";
import { type View, viewOf, withView } from "../../charts/curves/view";
import { Card } from "../../components/Card";
import { Checkbox } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { PageHeading } from "../../components/PageHeading";
import { ComparePageQueryDocument } from "./ComparePage.generated";
import { CurveControls } from "./CurveControls";
import { Evaluations } from "./Evaluations";
import { configurationOf, differing, saesIn } from "./facts";
import { MAX_SAES, SaePicker } from "./SaePicker";
import { SideBySide } from "./SideBySide";

const TrainingCharts = lazy(() => import("../../charts/curves/TrainingCharts"));

/** Several SAEs beside one another: curves, configurations, evaluations. All that is chosen is in the address. */
export default function ComparePage() {
  const [search, setSearch] = useSearchParams();
  const idKey = [...new Set(search.getAll("sae"))].slice(0, MAX_SAES).join(" ");
  const saeIds = useMemo(() => idKey.split(" ").filter(Boolean), [idKey]);
  const answer = useData(ComparePageQueryDocument, { saeIds }, { pause: saeIds.length === 0 });
  const { data, problem, reload } = answer;
  const saes = useMemo(() => (saeIds.length > 0 && data ? saesIn(data.nodes) : []), [saeIds, data]);
  const names = new Map(saes.map(({ id, name }) => [id, name]));
  const missing = data ? saeIds.filter((id) => !names.has(id)) : [];
  const view = useMemo(() => viewOf(search), [search]);
  const onlyDifferences = search.has("diff");

  const change = (name: string, values: readonly string[], replace = true) =>
    setSearch(
      (before) => {
        const next = new URLSearchParams(before);
        next.delete(name);
        for (const value of values) next.append(name, value);
        return next;
      },
      { replace },
    );
  const onView = (next: View) => setSearch((before) => withView(before, next), { replace: true });
  const facts = configurationOf(saes);
  return (
    <>
      <PageHeading title="Compare SAEs" />
      <Card title="SAEs">
        <SaePicker ids={saeIds} names={names} onChange={(ids) => change("sae", ids, false)} />
        {problem && <ErrorBox problem={problem} onRetry={reload} />}
        {missing.length > 0 && saes.length + missing.length === saeIds.length && (
          <p className="muted">
            There is no SAE {missing.join(", ")}.{" "}
            <button type="button" onClick={() => change("sae", [...names.keys()])}>
              Leave out
            </button>
          </p>
        )}
      </Card>
      {saes.length > 0 && (
        <>
          <Card title="Curves">
            <CurveControls view={view} onView={onView} />
            <Suspense fallback={<p className="muted">Loading…</p>}>
              <TrainingCharts saes={saes} view={view} onView={onView} />
            </Suspense>
          </Card>
          <Evaluations saes={saes} chosen={search.get("on")} onChoose={(basis) => change("on", [basis])} />
          <Card
            title="Configurations"
            aside={
              <Checkbox
                label="Only differences"
                value={onlyDifferences}
                onChange={(isOnly) => change("diff", isOnly ? ["1"] : [])}
              />
            }
          >
            <SideBySide
              caption="Configurations"
              saes={saes}
              facts={onlyDifferences && saes.length > 1 ? differing(facts) : facts}
            />
          </Card>
        </>
      )}
    </>
  );
}
