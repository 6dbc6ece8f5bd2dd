import type { DatasetInput } from "../../generated/types";

/** Where texts come from, short enough for an address: own texts and files are stored first. */
export type DatasetChoice =
  | { kind: "builtIn" }
  | { kind: "stored"; id: string }
  | { kind: "hub"; repository: string; config: string; split: string; textField: string }
  | { kind: "file"; path: string; textField: string };

export const PYTHON_REFERENCE: DatasetChoice = { kind: "builtIn" };
export const NEW_HUB = {
  kind: "hub",
  repository: "",
  config: "",
  split: "train",
  textField: "text",
} as const;
export const NEW_FILE = { kind: "file", path: "", textField: "text" } as const;

/** Returns a choice as an address has it. */
export function encode(choice: DatasetChoice): string {
  switch (choice.kind) {
    case "builtIn":
      return "python";
    case "stored":
      return choice.id;
    default: {
      const { kind, ...rest } = choice;
      return `${kind}:${new URLSearchParams(rest)}`;
    }
  }
}

/** Returns the choice of an address; the built-in texts where it says nothing that can be read. */
export function decode(text: string | null): DatasetChoice {
  if (text?.startsWith("dataset_")) return { kind: "stored", id: text };
  const [, kind, rest] = /^(hub|file):(.*)$/.exec(text ?? "") ?? [];
  if (rest === undefined) return PYTHON_REFERENCE;
  const found = Object.fromEntries(new URLSearchParams(rest));
  const { repository = "", config = "", split = "train", path = "", textField = "text" } = found;
  return kind === "hub"
    ? { kind: "hub", repository, config, split, textField }
    : { kind: "file", path, textField };
}

/** Returns whether a choice says enough to be asked for. */
export function isComplete(choice: DatasetChoice): boolean {
  if (choice.kind === "hub") return choice.repository.trim() !== "";
  if (choice.kind === "file") return choice.path.trim() !== "";
  return true;
}

export function inputOf(choice: DatasetChoice): DatasetInput {
  switch (choice.kind) {
    case "builtIn":
      return { builtIn: "PYTHON_REFERENCE" };
    case "stored":
      return { datasetId: choice.id };
    case "file":
      return { file: { path: choice.path.trim(), textField: choice.textField } };
    case "hub": {
      const { repository, config, split, textField } = choice;
      return {
        huggingFace: { repository: repository.trim(), config: config.trim() || null, split, textField },
      };
    }
  }
}
