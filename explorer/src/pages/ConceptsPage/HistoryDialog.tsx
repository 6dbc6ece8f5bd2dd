import { Link } from "wouter";
import { useAction, useData } from "../../api/hooks";
import { Dialog } from "../../components/Dialog";
import { ErrorBox } from "../../components/ErrorBox";
import { History } from "../NeuronPage/History";
import { NeuronPageUndoMutationDocument } from "../NeuronPage/NeuronPage.generated";
import { lastVersion } from "../NeuronPage/naming";
import { ConceptsPageHistoryQueryDocument } from "./ConceptsPage.generated";

interface HistoryDialogProps {
  saeId: string;
  index: number;
  onClose: () => void;
}

/** What a neuron was called, with each name to restore. */
export function HistoryDialog({ saeId, index, onClose }: HistoryDialogProps) {
  const { data, problem, reload } = useData(ConceptsPageHistoryQueryDocument, { saeId, index });
  const restoring = useAction(NeuronPageUndoMutationDocument);
  const neuron = data?.neuron;
  return (
    <Dialog title={`Names of #${index}`} onClose={onClose}>
      {problem && <ErrorBox problem={problem} onRetry={reload} />}
      {neuron ? (
        <History
          neuron={neuron}
          disabled={restoring.running}
          onRestore={(version) =>
            restoring.run({ saeId, neuronIndex: index, version, expectedVersion: lastVersion(neuron) })
          }
        />
      ) : (
        !problem && <p className="muted">Loading…</p>
      )}
      {restoring.problem && <ErrorBox problem={restoring.problem} />}
      <p>
        <Link href={`/saes/${saeId}/neurons/${index}`}>Open the neuron</Link>
      </p>
    </Dialog>
  );
}
