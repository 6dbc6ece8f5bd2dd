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
  const a = useTexts(saeId, sets.a, index);
  const b = useTexts(saeId, sets.b, index);
  const isThere = Boolean(a.prompts && b.prompts);
  const card = useRef<HTMLDivElement>(null);
  // The button that asks for it may be a screen above.
  useEffect(() => {
    if (isThere) card.current?.scrollIntoView({ block: "nearest" });
  }, [isThere]);
  const refused = a.refused ?? b.refused;
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
        {refused && <ErrorBox problem={refused} onRetry={a.refused ? a.reload : b.reload} />}
        {!isThere && !refused && <p className="muted">Running the model…</p>}
        {a.prompts && b.prompts && <Texts a={a.prompts} b={b.prompts} />}
      </Card>
    </div>
  );
}

function useTexts(saeId: string, texts: readonly string[], index: number) {
  const { data, problem, reload } = useData(
    ContrastPageTextsQueryDocument,
    { saeId, texts: [...texts], neuronIndices: [index] },
    { policy: "cache-first" },
  );
  const answer = data?.neuronActivations;
  return {
    prompts: answer?.__typename === "NeuronActivations" ? answer.prompts : undefined,
    refused: (answer && refusalOf(answer)) ?? problem,
    reload,
  };
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
