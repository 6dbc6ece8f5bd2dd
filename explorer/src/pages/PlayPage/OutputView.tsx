import { useId, useState } from "react";
import { CopyButton } from "../../components/CopyButton";
import { precise } from "../../components/numbers";
import { TokenText } from "../../components/TokenText";
import { nameOf } from "../../components/tokenPieces";
import type { FinishReason, GenerationVariant } from "../../generated/types";
import type { Output, OutputToken } from "./generationRun";
import { NeuronLink } from "./NeuronLink";
import styles from "./PlayPage.module.css";
import type { PlaySettings } from "./settings";
import { type WhyAsked, whyToken } from "./why";

const TITLES: Record<GenerationVariant, string> = { BASELINE: "Baseline", STEERED: "Steered" };

const ENDS: Record<FinishReason, string> = {
  LENGTH: "as many tokens as asked for",
  STOP: "ended by a stop text",
  END_OF_TEXT: "ended by the model",
  CANCELED: "stopped",
};

interface OutputViewProps {
  saeId: string;
  variant: GenerationVariant;
  output: Output;
  values: readonly number[];
  max: number;
  unit: string;
  settings: PlaySettings;
  onWhy: (asked: WhyAsked) => void;
}

/** One text of a run; a token that is chosen tells what else could have stood there. */
export function OutputView(props: OutputViewProps) {
  const { saeId, variant, output, values, max, unit, settings, onWhy } = props;
  const id = useId();
  const [picked, setPicked] = useState<number | null>(null);
  const { tokens, finishReason, topNeurons } = output;
  const token = picked === null ? undefined : tokens[picked];
  const title = TITLES[variant];
  return (
    <section aria-labelledby={id} className={styles.output}>
      <div className={styles.editHead}>
        <h3 id={id}>{title}</h3>
        <CopyButton text={tokens.map(({ text }) => text).join("")} label="Copy text" />
      </div>
      <TokenText
        tokens={tokens}
        activations={values}
        max={max}
        unit={unit}
        pick={{ label: `${title} text, choose a token to explain it`, picked, onPick: setPicked }}
      />
      {finishReason && (
        <p className="muted">
          {tokens.length} tokens, {ENDS[finishReason]}.
        </p>
      )}
      {token && (
        <TokenDetails
          token={token}
          isExplainable={!settings.chat || token.index === 0}
          onWhy={(contrast) => onWhy(whyToken(settings, output, token, title.toLowerCase(), contrast))}
        />
      )}
      {topNeurons.length > 0 && (
        <p className={styles.top}>
          <span className="muted">Strongest neurons: </span>
          {topNeurons.map(({ neuron, activation }) => (
            <span key={neuron.index}>
              <NeuronLink saeId={saeId} neuron={neuron} /> {precise(activation)}{" "}
            </span>
          ))}
        </p>
      )}
    </section>
  );
}

interface TokenDetailsProps {
  token: OutputToken;
  isExplainable: boolean;
  onWhy: (contrast: { tokenId: number } | null) => void;
}

function chance(logProbability: number): string {
  return `${precise(100 * Math.exp(logProbability))}%`;
}

function TokenDetails({ token, isExplainable, onWhy }: TokenDetailsProps) {
  const others = token.alternatives.filter(({ tokenId }) => tokenId !== token.tokenId);
  return (
    <div className={styles.group}>
      <p>
        Token {token.index + 1}, {nameOf(token)}: {chance(token.logProbability)}
      </p>
      {isExplainable ? (
        <span className={styles.buttons}>
          <button type="button" onClick={() => onWhy(null)}>
            Why this token?
          </button>
          {others.map((other) => (
            <button key={other.tokenId} type="button" onClick={() => onWhy(other)}>
              Why not {nameOf(other)} ({chance(other.logProbability)})?
            </button>
          ))}
        </span>
      ) : (
        <p className="muted">In a chat, only the first token can be explained.</p>
      )}
    </div>
  );
}
