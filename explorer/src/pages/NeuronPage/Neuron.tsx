import { useRef, useState } from "react";
import { Link, useSearchParams } from "wouter";
import { createStore, type Store } from "../../api/store";
import { Card } from "../../components/Card";
import { Key } from "../../components/Key";
import { NumberText } from "../../components/NumberText";
import { PageHeading } from "../../components/PageHeading";
import { Properties } from "../../components/Properties";
import { LaunchIndex } from "../SaePage/LaunchIndex";
import { share } from "../SaePage/NeuronRow";
import { RandomButton } from "../SaePage/RandomButton";
import type { RandomNeuron } from "../SaePage/useRandomNeuron";
import { Effects } from "./Effects";
import { Firings } from "./Firings";
import { Naming } from "./Naming";
import styles from "./Neuron.module.css";
import type { NeuronPageQuery } from "./NeuronPage.generated";
import { playHref } from "./playHref";
import { Related } from "./Related";
import { TestText } from "./TestText";
import { Texts } from "./Texts";

export type NeuronShown = NonNullable<NeuronPageQuery["neuron"]>;
export type SaeOfNeuron = NonNullable<NeuronPageQuery["sae"]>;

interface NeuronProps {
  neuron: NeuronShown;
  sae: SaeOfNeuron;
  /** Where the list and the neurons beside this one in it are. */
  place: { list: string; previous: string | null; next: string | null };
  random: RandomNeuron;
  hasIndex: boolean;
}

/** All that is known of a neuron. */
export function Neuron({ neuron, sae, place, random, hasIndex }: NeuronProps) {
  const { index, concept } = neuron;
  const [, setAddress] = useSearchParams();
  // Outside React's state: a mouse over the texts draws the histogram anew, and nothing else.
  const [pointed] = useState(() => createStore<number | null>(null));
  const testBox = useRef<HTMLDivElement>(null);
  const onTake = (text: string) => {
    setAddress(
      (before) => {
        const next = new URLSearchParams(before);
        next.set("text", text);
        return next;
      },
      { replace: true },
    );
    testBox.current?.querySelector("textarea")?.focus();
  };
  return (
    <>
      <nav className="row" aria-label="The list of neurons">
        <Link href={place.list}>{sae.name}</Link>
        <Step href={place.previous} label="← Previous" keyName="k" />
        <Step href={place.next} label="Next →" keyName="j" />
        <RandomButton random={random} />
      </nav>
      <PageHeading title={concept ? `#${index} ${concept.name}` : `#${index}`}>
        <Link
          href={playHref(sae.id, index, neuron.steeringRange?.typical ?? null)}
          className="button primary"
        >
          Steer from here
        </Link>
      </PageHeading>
      {!hasIndex && (
        <Card title="The neurons are not indexed">
          <p className="muted">
            On which texts this neuron fires, and how strongly, is known once they are. Your own text can be
            tested at once.
          </p>
          <LaunchIndex saeId={sae.id} label="Index the neurons" />
        </Card>
      )}
      <div className={styles.columns}>
        <div className={styles.column}>
          <Naming saeId={sae.id} neuron={neuron} />
          {hasIndex && <Statistics neuron={neuron} pointed={pointed} />}
          {hasIndex && <Effects neuron={neuron} saeId={sae.id} />}
        </div>
        <div className={styles.column}>
          <div ref={testBox}>
            <TestText saeId={sae.id} index={index} max={neuron.maxActivation} />
          </div>
          {hasIndex && (
            <Texts
              neuron={neuron}
              saeId={sae.id}
              kept={sae.neuronIndex?.topTextsPerNeuron ?? 0}
              onTake={onTake}
              onPoint={pointed.set}
            />
          )}
          {hasIndex && <Related neuron={neuron} saeId={sae.id} onTake={onTake} />}
        </div>
      </div>
    </>
  );
}

function Step({ href, label, keyName }: { href: string | null; label: string; keyName: string }) {
  if (!href) return <span className="muted">{label}</span>;
  return (
    <Link href={href} aria-keyshortcuts={keyName}>
      {label} <Key name={keyName} />
    </Link>
  );
}

function Statistics({ neuron, pointed }: { neuron: NeuronShown; pointed: Store<number | null> }) {
  return (
    <Card title="When it fires">
      <Properties
        of={[
          ["Frequency", <NumberText key="frequency" value={neuron.frequency} format={share} />],
          ["Maximum", <NumberText key="maximum" value={neuron.maxActivation} />],
          ["Mean when it fires", <NumberText key="mean" value={neuron.meanActivation} />],
        ]}
      />
      <Firings neuron={neuron} pointed={pointed} />
    </Card>
  );
}
