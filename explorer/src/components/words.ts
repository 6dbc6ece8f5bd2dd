import type { JobKind, JobStatus } from "../generated/types";

const STATUSES: Record<JobStatus, string> = {
  QUEUED: "Queued",
  RUNNING: "Running",
  CANCELING: "Canceling",
  SUCCEEDED: "Succeeded",
  FAILED: "Failed",
  CANCELED: "Canceled",
  INTERRUPTED: "Interrupted",
};

const KINDS: Record<JobKind, string> = {
  LOAD_LANGUAGE_MODEL: "Load model",
  CAPTURE_ACTIVATIONS: "Capture",
  TRAIN_SAE: "Train",
  INDEX_NEURONS: "Index",
  EVALUATE_SAE: "Evaluate",
  IMPORT_SAE: "Import",
  EXPORT_SAE: "Export",
};

export function jobStatus(status: JobStatus): string {
  return STATUSES[status];
}

export function jobKind(kind: JobKind): string {
  return KINDS[kind];
}

/** Returns an enum's value as a word: EXPLAINED_VARIANCE is "explained variance". */
export function plain(value: string): string {
  return value.toLowerCase().replaceAll("_", " ");
}
