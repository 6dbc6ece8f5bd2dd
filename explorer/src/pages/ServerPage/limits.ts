import { bytes, whole } from "../../components/numbers";
import type { Property } from "../../components/Properties";
import type { ServerPageQuery } from "./ServerPage.generated";

type Limits = ServerPageQuery["server"]["limits"];

const seconds = (value: number) => `${whole(value)} s`;

const LABELS: Record<Exclude<keyof Limits, "__typename">, readonly [string, (value: number) => string]> = {
  maxArtifactBytes: ["Artifacts", bytes],
  maxUploadBytes: ["An upload", bytes],
  maxTexts: ["Texts of a dataset", whole],
  maxTextCharacters: ["Characters of a text", whole],
  maxLength: ["Tokens of a text", whole],
  maxBatchSize: ["Texts of a batch", whole],
  maxLatents: ["Neurons of an SAE", whole],
  maxEpochs: ["Epochs", whole],
  maxTrainingBatchSize: ["Tokens of a training's batch", whole],
  maxPrompts: ["Prompts at once", whole],
  maxNewTokens: ["New tokens of a prompt", whole],
  maxRequestTokens: ["Tokens of a request", whole],
  maxEdits: ["Edits of a config", whole],
  maxQueuedJobs: ["Jobs that wait", whole],
  maxInteractiveRequests: ["Questions that wait or run", whole],
  maxQueryCost: ["Cost of an operation", whole],
  maxExecutionSeconds: ["Time of an operation", seconds],
  maxBodyBytes: ["A request without files", bytes],
  maxAnswerBytes: ["An answer", bytes],
  maxSockets: ["WebSockets", whole],
  maxOperationsPerSocket: ["Operations of a WebSocket", whole],
};

/** Returns what may be asked for, in words; a limit that there is not is told as such. */
export function limitsOf(limits: Limits): Property[] {
  return Object.entries(LABELS).map(([key, [label, format]]) => {
    const value = limits[key as keyof typeof LABELS];
    return [label, value === null ? "none but the disk" : format(value)] as const;
  });
}
