import { useEffect, useRef } from "react";
import { useData } from "../../api/hooks";
import { refusalOf } from "../../api/problems";
import { Card } from "../../components/Card";
import { ErrorBox } from "../../components/ErrorBox";
import { precise } from "../../components/numbers";
import { TokenText } from "../../components/TokenText";
import { NeuronLink } from "../PlayPage/NeuronLink";
import { type ContrastPage_TextsFragment, ContrastPageTextsQueryDocument } from "./ContrastPage.generated";
import styles from "./ContrastPage.module.css";
import type { Contrasted } from "./ContrastTable";
import { effectOf, type Sets } from "./texts";

type Prompts = Extract<ContrastPage_TextsFragment, { __typename: "NeuronActivations" }>["prompts"];

interface WhereCardProps {
  saeId: string;
  sets: Sets;
  neuron: Contrasted["neuron"] | { index: number; concept: null };
}

/** Where a neuron fires in each text of both sets. */
export function WhereCard({ saeId, sets, neuron }: WhereCardProps) {
  const { index } = neuron;
  const { data, problem, reload } = useData(
    ContrastPageTextsQueryDocument,
    { saeId, textsA: [...sets.a], textsB: [...sets.b], neuronIndices: [index] },
    { policy: "cache-first" },
  );
  const card = useRef<HTMLDivElement>(null);
  // The button that asks for it may be a screen above.
  useEffect(() => {
    if (data) card.current?.scrollIntoView({ block: "nearest" });
  }, [data]);
  const refused = (data && (refusalOf(data.a) ?? refusalOf(data.b))) ?? problem;
  return (
    <div ref={card}>
      <Card
        title={`Where #${index} fires`}
        aside={
          <span>
            <NeuronLink saeId={saeId} neuron={neuron} />
          </span>
        }
      >
        {refused && <ErrorBox problem={refused} onRetry={reload} />}
        {!data && !refused && <p className="muted">Running the model…</p>}
        {data?.a.__typename === "NeuronActivations" && data.b.__typename === "NeuronActivations" && (
          <Texts a={data.a.prompts} b={data.b.prompts} />
        )}
      </Card>
    </div>
  );
}

/** Returns a neuron's activations on all tokens that count. */
function counted(prompts: Prompts): number[] {
  return prompts.flatMap(({ tokens, rows }) =>
    (rows[0]?.values ?? []).filter((_, place) => !tokens[place]?.special),
  );
}

function Texts({ a, b }: { a: Prompts; b: Prompts }) {
  const max = Math.max(0, ...[...a, ...b].map(({ rows }) => rows[0]?.max ?? 0));
  const { firesA, firesB, countA, countB, d } = effectOf(counted(a), counted(b));
  return (
    <>
      <p>
        It fires on {firesA} of {countA} tokens of A and on {firesB} of {countB} of B.
        {d !== null && ` Cohen's d over tokens: ${precise(d)}.`}
      </p>
      <div className={styles.sets}>
        <TextsOf name="A" prompts={a} max={max} />
        <TextsOf name="B" prompts={b} max={max} />
      </div>
    </>
  );
}

function TextsOf({ name, prompts, max }: { name: string; prompts: Prompts; max: number }) {
  return (
    <section aria-label={`Texts of ${name}`} className={styles.texts}>
      <h3>{name}</h3>
      {prompts.map(({ tokens, rows }, place) => (
        <TokenText
          // biome-ignore lint/suspicious/noArrayIndexKey: a text is its place.
          key={place}
          tokens={tokens}
          activations={rows[0]?.values}
          max={max}
        />
      ))}
    </section>
  );
}
