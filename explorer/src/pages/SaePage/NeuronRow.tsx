import { memo } from "react";
import { Link } from "wouter";
import type { Shared_TextFragment } from "../../api/Shared.generated";
import { NumberText } from "../../components/NumberText";
import { precise } from "../../components/numbers";
import { TokenText } from "../../components/TokenText";
import { plain } from "../../components/words";
import type { NeuronOrder } from "../../generated/types";
import styles from "./NeuronRow.module.css";
import type { SaePage_NeuronFragment } from "./SaePage.generated";

interface NeuronRowProps {
  neuron: SaePage_NeuronFragment;
  href: string;
}

/** A neuron in the table: its name, where it fires most, and its figures. */
export const NeuronRow = memo(function NeuronRow({ neuron, href }: NeuronRowProps) {
  const { index, concept, frequency, maxActivation, meanActivation, dead } = neuron;
  const [text] = neuron.topTexts ?? [];
  return (
    <div className={styles.row}>
      <Link href={href} className={styles.index}>
        #{index}
      </Link>
      <div className={styles.what}>
        <div className={styles.name}>
          {concept ? (
            <>
              <strong title={concept.name}>{concept.name}</strong>{" "}
              <span className="muted">{plain(concept.source)}</span>
            </>
          ) : (
            <span className="muted">{dead ? "never fired" : "no name"}</span>
          )}
        </div>
        {text && <Snippet text={text} />}
      </div>
      <Figure value={frequency} format={share} />
      <Figure value={maxActivation} />
      <Figure value={meanActivation} />
    </div>
  );
});

function Figure({ value, format }: { value: number | null; format?: (value: number) => string }) {
  return (
    <span className={styles.figure}>
      <NumberText value={value} {...(format && { format })} />
    </span>
  );
}

/** A share of tokens: seldom ones in full, since most are. */
export function share(value: number): string {
  return value === 0 ? "0" : `${precise(Number((100 * value).toPrecision(3)))}%`;
}

const BEFORE = 6;

/** The top text around its peak, in one line. */
function Snippet({ text }: { text: Shared_TextFragment }) {
  const from = Math.max(0, text.peakIndex - BEFORE);
  return (
    <div className={styles.snippet}>
      <TokenText
        tokens={text.tokenTexts.slice(from).map((token) => ({ text: token }))}
        activations={text.activations.slice(from)}
        peak={text.peakIndex - from}
      />
    </div>
  );
}

interface HeadProps {
  order: NeuronOrder;
  onOrder: (order: NeuronOrder) => void;
  hasFigures: boolean;
}

/** The table's head: each title orders by it, and the other way round where there is one. */
export function NeuronHead({ order, onOrder, hasFigures }: HeadProps) {
  const titles: readonly (readonly [title: string, orders: readonly NeuronOrder[], className?: string])[] = [
    ["#", ["INDEX"]],
    ["Name, strongest text", ["CONCEPT_NAME", "CONCEPT_UPDATED_DESC"]],
    ["Frequency", ["FREQUENCY_DESC", "FREQUENCY_ASC"], styles.figure],
    ["Maximum", ["MAX_ACTIVATION_DESC", "MAX_ACTIVATION_ASC"], styles.figure],
    ["Mean", ["MEAN_ACTIVATION_DESC"], styles.figure],
  ];
  return (
    <div className={styles.row}>
      {titles.map(([title, orders, className]) => {
        const place = orders.indexOf(order);
        const isFigure = className !== undefined;
        return (
          <button
            key={title}
            type="button"
            className={`${styles.sort} ${className ?? ""}`}
            aria-pressed={place >= 0}
            disabled={isFigure && !hasFigures}
            onClick={() => onOrder(orders[(place + 1) % orders.length] ?? "INDEX")}
          >
            {title} {place >= 0 && <span aria-hidden="true">{arrow(order)}</span>}
          </button>
        );
      })}
    </div>
  );
}

function arrow(order: NeuronOrder): string {
  return order.endsWith("_DESC") ? "↓" : "↑";
}
