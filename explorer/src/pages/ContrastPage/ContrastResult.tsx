import { useState } from "react";
import { Link } from "wouter";
import { useData } from "../../api/hooks";
import { refusalOf } from "../../api/problems";
import { Card } from "../../components/Card";
import { ErrorBox } from "../../components/ErrorBox";
import { ContrastPageQueryDocument } from "./ContrastPage.generated";
import styles from "./ContrastPage.module.css";
import { ContrastTable } from "./ContrastTable";
import { searchToward } from "./steer";
import type { Sets } from "./texts";
import { WhereCard } from "./WhereCard";

interface ContrastResultProps {
  saeId: string;
  sets: Sets;
  chosen: number | null;
  onChoose: (index: number) => void;
}

/** Both directions at once; a neuron leads to the texts, several lead to the playground. */
export function ContrastResult({ saeId, sets, chosen, onChoose }: ContrastResultProps) {
  const [steered, setSteered] = useState<ReadonlySet<number>>(new Set());
  const toA = useDirection(saeId, sets.a, sets.b);
  const toB = useDirection(saeId, sets.b, sets.a);
  const refused = toA.refused ?? toB.refused;
  if (refused) return <ErrorBox problem={refused} onRetry={toA.refused ? toA.reload : toB.reload} />;
  if (!toA.neurons || !toB.neurons) {
    return <p className="muted">Running the model… The first time it has to be loaded.</p>;
  }
  const { neurons: a } = toA;
  const { neurons: b } = toB;
  const max = Math.max(...[...a, ...b].map(({ difference }) => difference));
  const isSteered = ({ neuron }: { neuron: { index: number } }) => steered.has(neuron.index);
  const [fromA, fromB] = [a, b].map((side) => side.filter(isSteered).map(({ neuron }) => neuron));
  const steer = (index: number, isWanted: boolean) => {
    const next = new Set(steered);
    if (isWanted) next.add(index);
    else next.delete(index);
    setSteered(next);
  };
  const shared = { saeId, max, chosen, onChoose, steered, onSteer: steer };
  const shown = [...a, ...b].find(({ neuron }) => neuron.index === chosen)?.neuron;

  return (
    <>
      <div className={styles.sets}>
        <Card title="More on A">
          <ContrastTable set="A" rows={a} {...shared} />
        </Card>
        <Card title="More on B">
          <ContrastTable set="B" rows={b} {...shared} />
        </Card>
      </div>
      <div className="row">
        <span className="muted">
          Differences are of mean activations per token.{" "}
          {steered.size === 0 ? "Mark neurons to steer by them." : `${steered.size} marked:`}
        </span>
        {steered.size > 0 && fromA && fromB && (
          <>
            <Link
              className="button"
              href={`/saes/${saeId}/play?${searchToward(fromA, fromB, sets.b[0] ?? "")}`}
            >
              Steer toward A
            </Link>
            <Link
              className="button"
              href={`/saes/${saeId}/play?${searchToward(fromB, fromA, sets.a[0] ?? "")}`}
            >
              Steer toward B
            </Link>
          </>
        )}
      </div>
      {chosen !== null && (
        <WhereCard key={chosen} {...{ saeId, sets }} neuron={shown ?? { index: chosen, concept: null }} />
      )}
    </>
  );
}

/** Asks for one direction: both in one query would cost more than a query may with a few dozen texts. */
function useDirection(saeId: string, more: readonly string[], less: readonly string[]) {
  const { data, problem, reload } = useData(
    ContrastPageQueryDocument,
    { saeId, textsA: [...more], textsB: [...less] },
    { policy: "cache-first" },
  );
  const answer = data?.contrastNeurons;
  return {
    neurons: answer?.__typename === "ContrastedNeurons" ? answer.neurons : undefined,
    refused: (answer && refusalOf(answer)) ?? problem,
    reload,
  };
}
