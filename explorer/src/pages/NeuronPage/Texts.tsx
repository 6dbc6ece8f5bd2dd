import { Link, useSearchParams } from "wouter";
import { Card } from "../../components/Card";
import { Checkbox } from "../../components/controls";
import { precise } from "../../components/numbers";
import { Tabs } from "../../components/Tabs";
import type { NeuronShown } from "./Neuron";
import { Renew } from "./Renew";
import { type Shown, ShownText } from "./ShownText";
import { keyOf, TextList } from "./TextList";
import { TopTexts } from "./TopTexts";

const PANELS = ["top", "range", "silent"] as const;

interface TextsProps {
  neuron: NeuronShown;
  saeId: string;
  /** How many top texts the index keeps of a neuron. */
  kept: number;
  onTake: (text: string) => void;
  onPoint: (activation: number | null) => void;
}

/** Texts on which it fires most, over its whole range, and not at all. */
export function Texts({ neuron, saeId, kept, onTake, onPoint }: TextsProps) {
  const [address, setAddress] = useSearchParams();
  const set = (key: string, value: string | null) =>
    setAddress(
      (before) => {
        const next = new URLSearchParams(before);
        if (value) next.set(key, value);
        else next.delete(key);
        return next;
      },
      { replace: true },
    );
  const shown: Shown = {
    isShort: address.get("context") === "short",
    hasValues: address.get("values") === "yes",
    max: neuron.maxActivation ?? 0,
    onTake,
    onPoint,
  };
  const selected = PANELS.find((panel) => panel === address.get("texts")) ?? "top";
  return (
    <Card
      title="Texts"
      aside={
        <span className="row">
          <Checkbox
            label="Short"
            value={shown.isShort}
            onChange={(short) => set("context", short ? "short" : null)}
          />
          <Checkbox
            label="Values"
            value={shown.hasValues}
            onChange={(values) => set("values", values ? "yes" : null)}
          />
        </span>
      }
    >
      <Tabs
        label="Texts"
        selected={selected}
        onSelect={(key) => set("texts", key === "top" ? null : key)}
        tabs={[
          {
            key: "top",
            title: "Strongest",
            panel: (
              <TopTexts
                {...{ neuron, saeId, kept, shown }}
                isWhole={address.get("all") === "yes"}
                onWhole={(isWhole) => set("all", isWhole ? "yes" : null)}
              />
            ),
          },
          { key: "range", title: "Over its range", panel: <Ranges neuron={neuron} {...{ saeId, shown }} /> },
          {
            key: "silent",
            title: "Where it is silent",
            panel: <Silent neuron={neuron} {...{ saeId, shown }} />,
          },
        ]}
      />
    </Card>
  );
}

interface PanelProps {
  neuron: NeuronShown;
  shown: Shown;
}

function Ranges({ neuron: { exampleGroups }, saeId, shown }: PanelProps & { saeId: string }) {
  if (!exampleGroups)
    return <Renew saeId={saeId}>An earlier version made the index, without these texts.</Renew>;
  if (exampleGroups.length === 0) return <p className="muted">It fired on no text of the index.</p>;
  return (
    <div className="stack">
      <p className="muted">
        A name has to hold for all of these. They are drawn from all firings; each range says how many are in
        it.
      </p>
      {[...exampleGroups].reverse().map(({ from, to, share, texts }) => (
        <section key={from}>
          <h3>
            {precise(from)} to {precise(to)}{" "}
            <span className="muted">{precise(Number((100 * share).toPrecision(3)))}% of its firings</span>
          </h3>
          <TextList texts={texts} shown={shown} />
        </section>
      ))}
    </div>
  );
}

function Silent({ neuron, saeId, shown }: PanelProps & { saeId: string }) {
  const { silentTexts, similarNeuronTexts } = neuron;
  if (!silentTexts || !similarNeuronTexts) {
    return <Renew saeId={saeId}>An earlier version made the index, without these texts.</Renew>;
  }
  return (
    <div className="stack">
      <section>
        <h3>Where similar neurons fire, and this one does not</h3>
        <p className="muted">Shaded by the similar neuron.</p>
        {similarNeuronTexts.length === 0 && <p className="muted">None: it fires wherever they do.</p>}
        {similarNeuronTexts.map(({ neuron: other, text }) => (
          <ShownText
            key={other.id + keyOf(text)}
            text={text}
            shown={{ ...shown, max: 0, onPoint: undefined }}
            aside={
              <Link href={`/saes/${saeId}/neurons/${other.index}`}>
                #{other.index} {other.concept?.name}
              </Link>
            }
          />
        ))}
      </section>
      <section>
        <h3>Drawn from all texts on which it does not fire</h3>
        {silentTexts.length === 0 && <p className="muted">None: it fires on nearly every text.</p>}
        <TextList texts={silentTexts} shown={shown} isSilent />
      </section>
    </div>
  );
}
