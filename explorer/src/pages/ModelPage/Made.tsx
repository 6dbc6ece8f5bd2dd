import { Link } from "wouter";
import { Card } from "../../components/Card";
import { Empty } from "../../components/Empty";
import { whole } from "../../components/numbers";
import type { Model } from "./ModelFacts";

/** Runs and SAEs of the model. */
export function Made({ model }: { model: Model }) {
  const { activationRuns: runs, saes } = model;
  return (
    <>
      <Card title="SAEs" aside={<span className="muted">{whole(saes.totalCount)} in all</span>}>
        {saes.nodes.length === 0 ? (
          <Empty next={{ href: "/train", label: "Train one" }}>No SAE belongs to it yet.</Empty>
        ) : (
          <ul>
            {saes.nodes.map(({ id, name, layer }) => (
              <li key={id}>
                <Link href={`/saes/${id}`}>{name}</Link> <span className="muted">{layer}</span>
              </li>
            ))}
          </ul>
        )}
      </Card>
      <Card title="Activation runs" aside={<span className="muted">{whole(runs.totalCount)} in all</span>}>
        {runs.nodes.length === 0 ? (
          <Empty next={{ href: `/capture?model=${model.id}`, label: "Capture some" }}>
            There are none yet.
          </Empty>
        ) : (
          <ul>
            {runs.nodes.map(({ id, name }) => (
              <li key={id}>
                <Link href={`/runs/${id}`}>{name}</Link>
              </li>
            ))}
          </ul>
        )}
      </Card>
    </>
  );
}
