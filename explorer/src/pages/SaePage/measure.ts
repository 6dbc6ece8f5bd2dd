import type { Option } from "../../components/controls";
import type { DatasetInput } from "../../generated/types";
import type { SaePageQuery } from "./SaePage.generated";

type Kind = "BUILT_IN" | "STORED" | "HUB" | "FILE" | "TEXTS";

/** What stands in the form, of each kind of source. */
export interface DatasetChoice {
  kind: Kind;
  datasetId: string;
  repository: string;
  split: string;
  path: string;
  textField: string;
  texts: string;
}

export const KINDS: readonly Option<Kind>[] = [
  { value: "BUILT_IN", label: "Python language reference (built in)" },
  { value: "STORED", label: "An uploaded dataset" },
  { value: "HUB", label: "Hugging Face Hub" },
  { value: "FILE", label: "A file on the server's machine" },
  { value: "TEXTS", label: "Texts typed here" },
];

const NOTHING: DatasetChoice = {
  kind: "BUILT_IN",
  datasetId: "",
  repository: "",
  split: "train",
  path: "",
  textField: "text",
  texts: "",
};

type Run = NonNullable<SaePageQuery["sae"]>["activationRun"];

/** Returns the run's dataset behind the texts that the run has, where it can be named again. */
export function heldOut(run: Run): { choice: DatasetChoice; offset: number } {
  if (!run) return { choice: NOTHING, offset: 0 };
  const { dataset, sampleCount: offset } = run;
  if (dataset.kind === "BUILT_IN") return { choice: NOTHING, offset };
  if (dataset.kind === "HUGGING_FACE")
    return { choice: { ...NOTHING, kind: "HUB", repository: dataset.description }, offset };
  if (dataset.storedDataset)
    return { choice: { ...NOTHING, kind: "STORED", datasetId: dataset.storedDataset.id }, offset };
  return { choice: NOTHING, offset: 0 };
}

function linesOf(texts: string): string[] {
  return texts.split("\n").filter((line) => line.trim() !== "");
}

export function isChosen(choice: DatasetChoice): boolean {
  const needed: Record<Kind, string> = {
    BUILT_IN: "built in",
    STORED: choice.datasetId,
    HUB: choice.repository.trim(),
    FILE: choice.path.trim(),
    TEXTS: choice.texts.trim(),
  };
  return needed[choice.kind] !== "";
}

/** Returns the choice as the API takes it. */
export function datasetOf(choice: DatasetChoice): DatasetInput {
  const { datasetId, repository, split, path, texts } = choice;
  const textField = choice.textField.trim() || "text";
  switch (choice.kind) {
    case "BUILT_IN":
      return { builtIn: "PYTHON_REFERENCE" };
    case "STORED":
      return { datasetId };
    case "HUB":
      return {
        huggingFace: {
          repository: repository.trim(),
          split: split.trim() || "train",
          textField,
          skipBadRows: false,
        },
      };
    case "FILE":
      return { file: { path: path.trim(), textField, skipBadRows: false } };
    case "TEXTS":
      return { texts: linesOf(texts) };
  }
}
