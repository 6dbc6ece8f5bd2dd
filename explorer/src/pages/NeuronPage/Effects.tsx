import { Histogram } from "../../charts/Histogram";
import { Card } from "../../components/Card";
import { precise } from "../../components/numbers";
import { nameOf } from "../../components/tokenPieces";
import styles from "./Effects.module.css";
import type { NeuronShown } from "./Neuron";
import { Renew } from "./Renew";

type Token = NonNullable<NeuronShown["promotedTokens"]>[number];

/** Which output tokens it raises and lowers. */
export function Effects({ neuron, saeId }: { neuron: NeuronShown; saeId: string }) {
  const { promotedTokens, suppressedTokens, logitHistogram } = neuron;
  const isUnknown = promotedTokens === null || suppressedTokens === null;
  return (
    <Card title="What it does to the output">
      {isUnknown ? (
        <Renew saeId={saeId}>
          Not known: an earlier version made the index, or the model's output cannot be told from this layer.
          The log of the index's job says which.
        </Renew>
      ) : (
        <div className={styles.tokens}>
          <Tokens title="Promoted tokens" tokens={promotedTokens} />
          <Tokens title="Suppressed tokens" tokens={suppressedTokens} />
        </div>
      )}
      {logitHistogram ? (
        <>
          <h3>Effects on all tokens' logits</h3>
          <Histogram label="Tokens by effect" {...logitHistogram} logY />
          <p className="muted">Direct effect, per unit of activation, before the final norm.</p>
        </>
      ) : (
        !isUnknown && <Renew saeId={saeId}>An earlier version made the index, without this histogram.</Renew>
      )}
    </Card>
  );
}

function Tokens({ title, tokens }: { title: string; tokens: readonly Token[] }) {
  const most = tokens.reduce((high, { effect }) => Math.max(high, Math.abs(effect)), 0) || 1;
  return (
    <div>
      <h3>{title}</h3>
      {tokens.length === 0 && <p className="muted">None.</p>}
      <ol className={styles.list}>
        {tokens.map(({ token, effect }, place) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: two tokens can have one text.
          <li key={place} className={styles.token}>
            <span
              className={effect > 0 ? styles.raised : styles.lowered}
              style={{ width: `${(100 * Math.abs(effect)) / most}%` }}
            />
            <code>{nameOf({ text: token })}</code>
            <span className="muted">{precise(Number(effect.toPrecision(3)))}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}
