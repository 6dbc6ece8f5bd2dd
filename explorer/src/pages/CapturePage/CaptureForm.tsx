import { type FormEvent, useState } from "react";
import { useLocation } from "wouter";
import { useAction } from "../../api/hooks";
import { useLaunchKey } from "../../api/launchKey";
import { messageAt } from "../../api/problems";
import { Card } from "../../components/Card";
import { NumberField, Select, TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import { bytes, compact, whole } from "../../components/numbers";
import type { FloatType, LongTexts } from "../../generated/types";
import { DatasetLook, useDatasetLook } from "../DatasetsPage/DatasetLook";
import { DatasetPicker, type Kind } from "../DatasetsPage/DatasetPicker";
import { type DatasetChoice, decode, encode, inputOf, isComplete } from "../DatasetsPage/datasetChoice";
import styles from "./CaptureForm.module.css";
import {
  CapturePageLaunchMutationDocument,
  type CapturePageModelsQuery,
  type CapturePageQuery,
} from "./CapturePage.generated";
import { estimate, textsTaken } from "./estimate";
import { LayerPicker } from "./LayerPicker";
import { type Layer, recommended } from "./layers";

const DTYPES: readonly { value: FloatType; label: string }[] = [
  { value: "FLOAT32", label: "float32" },
  { value: "BFLOAT16", label: "bfloat16, half the size" },
  { value: "FLOAT16", label: "float16, half the size" },
];
const LONG_TEXTS: readonly { value: LongTexts; label: string }[] = [
  { value: "TRUNCATE", label: "Cut, the rest is left out" },
  { value: "SPLIT", label: "Split into pieces, all is captured" },
];

interface CaptureFormProps {
  model: NonNullable<CapturePageQuery["languageModel"]>;
  layers: readonly Layer[];
  limits: CapturePageModelsQuery["server"]["limits"];
  search: URLSearchParams;
  setSearch: (next: (before: URLSearchParams) => URLSearchParams, options?: { replace: boolean }) => void;
}

export function CaptureForm({ model, layers, limits, search, setSearch }: CaptureFormProps) {
  const [, navigate] = useLocation();
  const [name, setName] = useState("");
  const [offset, setOffset] = useState<number | null>(0);
  const [limit, setLimit] = useState<number | null>(null);
  const [batchSize, setBatchSize] = useState<number | null>(16);
  const [maxLength, setMaxLength] = useState<number | null>(128);
  const [longTexts, setLongTexts] = useState<LongTexts>("TRUNCATE");
  const [dtype, setDtype] = useState<FloatType>("FLOAT32");
  const choice = decode(search.get("data"));
  const [kind, setKind] = useState<Kind>(choice.kind);
  const { run, problem, running } = useAction(CapturePageLaunchMutationDocument);
  const launchKey = useLaunchKey();
  const look = useDatasetLook(choice, model.id);

  const set = (key: string, value: string) =>
    setSearch(
      (before) => {
        const next = new URLSearchParams(before);
        next.set(key, value);
        return next;
      },
      { replace: true },
    );
  const asked = search.get("layers")?.split(",").filter(Boolean);
  const chosen = asked ?? [recommended(layers)?.name ?? ""].filter(Boolean);
  const setChoice = (next: DatasetChoice) => set("data", encode(next));

  const texts = textsTaken(look.found?.sampleCount ?? null, offset ?? 0, limit);
  const size = estimate({
    texts,
    meanTokens: look.found?.meanTokenCount ?? null,
    maxLength: maxLength ?? 128,
    splits: longTexts === "SPLIT",
    // Of models that an older server has loaded, no width is told.
    widths: chosen.map((name) => layers.find((layer) => layer.name === name)?.width ?? model.hiddenSize),
    dtype,
  });
  const isReady = chosen.length > 0 && isComplete(choice) && kind !== "own" && kind !== "upload";

  const onSubmit = async (event: FormEvent) => {
    event.preventDefault();
    const input = {
      languageModelId: model.id,
      layers: [...chosen],
      dataset: inputOf(choice),
      name: name.trim() || null,
      sampleOffset: offset ?? 0,
      sampleLimit: limit,
      batchSize: batchSize ?? 16,
      maxLength: maxLength ?? 128,
      longTexts,
      dtype,
    };
    const launched = await run({ input: { ...input, idempotencyKey: launchKey(input) } });
    if (launched?.__typename === "JobLaunched") navigate(`/jobs/${launched.job.id}`);
  };
  const at = (path: string) => messageAt(problem, path);

  return (
    <>
      <Card title="Layers" aside={<span className="muted">{whole(layers.length)} modules</span>}>
        <LayerPicker
          multiple
          layers={layers}
          chosen={chosen}
          onChange={(names) => set("layers", names.join(","))}
          error={at("layers")}
        />
      </Card>
      <Card title="Texts">
        <DatasetPicker
          choice={choice}
          onChange={setChoice}
          kind={kind}
          onKind={setKind}
          languageModelId={model.id}
          error={at("dataset")}
        />
        {kind !== "own" && kind !== "upload" && <DatasetLook choice={choice} answer={look} />}
      </Card>
      <Card title="How">
        <form className="stack" noValidate onSubmit={onSubmit}>
          <div className={styles.fields}>
            <TextField
              label="Name"
              value={name}
              onChange={setName}
              placeholder="The server makes one"
              error={at("name")}
            />
            <NumberField
              label="Texts, at most"
              value={limit}
              onChange={setLimit}
              min={1}
              step={1}
              placeholder="All"
              error={at("sampleLimit")}
            />
            <NumberField
              label="Leave out the first"
              value={offset}
              onChange={setOffset}
              min={0}
              step={1}
              hint="Texts, to hold some out."
              error={at("sampleOffset")}
            />
            <NumberField
              label="Tokens of a text"
              value={maxLength}
              onChange={setMaxLength}
              min={1}
              max={limits.maxLength}
              step={1}
              error={at("maxLength")}
            />
            <Select
              label="Longer texts"
              value={longTexts}
              options={LONG_TEXTS}
              onChange={setLongTexts}
              error={at("longTexts")}
            />
            <NumberField
              label="Texts of a batch"
              value={batchSize}
              onChange={setBatchSize}
              min={1}
              max={limits.maxBatchSize}
              step={1}
              error={at("batchSize")}
            />
            <Select
              label="Stored as"
              value={dtype}
              options={DTYPES}
              onChange={setDtype}
              error={at("dtype")}
            />
          </div>
          <p aria-live="polite">
            {size ? (
              <>
                About <strong>{compact(size.tokens)} tokens</strong>
                {texts !== null && ` of ${whole(texts)} texts`}, <strong>{bytes(size.bytes)}</strong> on disk.
              </>
            ) : (
              <span className="muted">
                How large it gets is known once the server has counted the texts and their tokens.
              </span>
            )}
          </p>
          {problem && <ErrorBox problem={problem} />}
          <div>
            <button type="submit" className="primary" disabled={!isReady || running}>
              Capture
            </button>
          </div>
        </form>
      </Card>
    </>
  );
}
