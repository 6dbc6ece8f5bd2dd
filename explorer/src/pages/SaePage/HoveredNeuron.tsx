import { useData } from "../../api/hooks";
import { precise } from "../../components/numbers";
import styles from "./MapCanvas.module.css";
import { share } from "./NeuronRow";
import { SaePageHoverQueryDocument } from "./SaePage.generated";
import { useDelayed } from "./useDelayed";

/** A pointer that only passes over asks for nothing. */
const REST_MS = 80;

interface HoveredNeuronProps {
  saeId: string;
  index: number;
  /** Where the point is. */
  left: number;
  top: number;
  /** Of the map. */
  width: number;
}

/** What is said of the neuron that is pointed at, beside its point. */
export function HoveredNeuron({ saeId, index, left, top, width }: HoveredNeuronProps) {
  const rested = useDelayed(index, REST_MS);
  const { data } = useData(
    SaePageHoverQueryDocument,
    { id: saeId, index: rested },
    { policy: "cache-first" },
  );
  const neuron = data?.neuron?.index === index ? data.neuron : null;
  const side = left < width / 2 ? { left: left + 10 } : { right: width - left + 10 };
  return (
    <>
      <div className={styles.point} style={{ left, top }} />
      <div className={styles.told} role="status" style={{ top, ...side }}>
        <strong>
          #{index} {neuron?.concept?.name}
        </strong>
        {neuron && (
          <span className="muted">
            {neuron.frequency === null ? "" : `${share(neuron.frequency)} of tokens, `}
            {neuron.maxActivation === null ? "" : `maximum ${precise(neuron.maxActivation)}`}
          </span>
        )}
        {neuron?.promotedTokens && neuron.promotedTokens.length > 0 && (
          <span>Promotes {neuron.promotedTokens.map(({ token }) => JSON.stringify(token)).join(" ")}</span>
        )}
      </div>
    </>
  );
}
