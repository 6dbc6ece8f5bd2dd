import { useParams } from "wouter";
import { useData } from "../../api/hooks";
import { About } from "./About";
import { Charts } from "./Charts";
import { Evaluation } from "./Evaluation";
import { IndexState } from "./IndexState";
import { MapCard } from "./MapCard";
import { Neurons } from "./Neurons";
import { SaeGate } from "./SaeGate";
import { SaeHeader } from "./SaeHeader";
import { SaePageQueryDocument } from "./SaePage.generated";
import styles from "./SaePage.module.css";
import { useNeuronList } from "./useNeuronList";

/** One SAE: what it is, how good it is, and its neurons. The list's state is in the address. */
export default function SaePage() {
  const { id } = useParams<{ id: string }>();
  const answer = useData(SaePageQueryDocument, { id });
  const { list, setList } = useNeuronList();
  const sae = answer.data?.sae;
  const hasFigures = sae?.neuronIndex?.status === "READY";
  return (
    <SaeGate title="SAE" answer={answer} sae={sae}>
      {sae && (
        <>
          <SaeHeader sae={sae} />
          <div className={styles.facts}>
            <About sae={sae} />
            <Evaluation sae={sae} />
          </div>
          <IndexState sae={sae} />
          {hasFigures && <Charts sae={sae} list={list} onChange={setList} />}
          <Neurons saeId={sae.id} list={list} onChange={setList} hasFigures={hasFigures} />
          {hasFigures && <MapCard sae={sae} list={list} />}
        </>
      )}
    </SaeGate>
  );
}
