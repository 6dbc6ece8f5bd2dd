import { type FormEvent, useState } from "react";
import { messageAt } from "../../api/problems";
import { Card } from "../../components/Card";
import { Checkbox, NumberField, Select, TextField } from "../../components/controls";
import { ErrorBox } from "../../components/ErrorBox";
import type { TrainSaeInput } from "../../generated/types";
import { ClassPicker } from "./ClassPicker";
import { Costs } from "./Costs";
import { MAX_SWEEP, numbersOf, STEP_TOKENS, trainingsOf } from "./sweep";
import styles from "./TrainForm.module.css";
import type { TrainPageQuery } from "./TrainPage.generated";
import { useLaunches } from "./useLaunches";
import { useValidated } from "./useValidated";

interface TrainFormProps {
  run: NonNullable<TrainPageQuery["activationRun"]>;
  server: TrainPageQuery["server"];
  /** From the address. */
  initial: { layer: string | null; saeClass: string | null };
}

/** What to train on a run. Several sizes or several k train several SAEs. */
export function TrainForm({ run, server, initial }: TrainFormProps) {
  const { saeClassInfos: classes, devices, limits } = server;
  const known = (name: string | null) => classes.find((one) => one.name === name);
  const [saeClass, setSaeClass] = useState((known(initial.saeClass) ?? classes[0])?.name ?? "");
  const [layer, setLayer] = useState(initial.layer ?? run.layers[0]?.name ?? "");
  const [name, setName] = useState("");
  const [sizes, setSizes] = useState("");
  const [ks, setKs] = useState("32");
  const [epochs, setEpochs] = useState<number | null>(4);
  const [batchSize, setBatchSize] = useState<number | null>(Math.min(STEP_TOKENS, run.tokenCount));
  const [learningRate, setLearningRate] = useState<number | null>(null);
  const [l1Lambda, setL1Lambda] = useState<number | null>(null);
  const [seed, setSeed] = useState<number | null>(0);
  const [device, setDevice] = useState(devices[0] ?? "");
  const [firstPositions, setFirstPositions] = useState<number | null>(0);
  const [outliers, setOutliers] = useState<number | null>(null);
  const [indexNeurons, setIndexNeurons] = useState(true);
  const launches = useLaunches();

  const info = known(saeClass);
  const sizeList = numbersOf(sizes);
  const kList = info?.needsK ? numbersOf(ks) : [];
  const base: TrainSaeInput = {
    activationRunId: run.id,
    layer: layer || null,
    name: name.trim() || null,
    saeClass,
    epochs: epochs ?? 1,
    batchSize: batchSize ?? STEP_TOKENS,
    learningRate,
    l1Lambda: info?.usesL1Lambda ? l1Lambda : null,
    seed: seed ?? 0,
    device: device || null,
    excludeFirstPositions: firstPositions ?? 0,
    excludeOutliers: outliers,
    indexNeurons,
  };
  const inputs = trainingsOf(base, sizeList ?? [], kList ?? []);
  const isSensible = sizeList !== null && kList !== null && inputs.length <= MAX_SWEEP;
  const validated = useValidated(isSensible ? inputs : []);
  const problem = launches.problem ?? validated?.problem ?? null;
  const at = (path: string) => messageAt(problem, path);
  const notWhole = "Whole numbers, with commas between.";

  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    if (isSensible) void launches.run(inputs);
  };

  return (
    <form className="stack" noValidate onSubmit={onSubmit}>
      <Card title="Class">
        <ClassPicker classes={classes} chosen={saeClass} onChange={setSaeClass} />
        {at("saeClass") && <p role="alert">{at("saeClass")}</p>}
      </Card>
      <Card title="Sizes">
        <div className={styles.fields}>
          {run.layers.length > 1 && (
            <Select
              label="Layer"
              value={layer}
              options={run.layers.map((one) => ({ value: one.name, label: one.name }))}
              onChange={setLayer}
              error={at("layer")}
            />
          )}
          <TextField
            label="Neurons"
            value={sizes}
            onChange={setSizes}
            placeholder="8 times the layer's width"
            hint="Several, such as 4096, 8192, train several SAEs."
            error={sizeList === null ? notWhole : at("latentCount")}
          />
          {info?.needsK && (
            <TextField
              label="k"
              value={ks}
              onChange={setKs}
              hint="Active neurons per token; several, such as 16, 32."
              error={kList === null ? notWhole : at("k")}
            />
          )}
          {info?.usesL1Lambda && (
            <NumberField
              label="L1 coefficient"
              value={l1Lambda}
              onChange={setL1Lambda}
              min={0}
              placeholder="Chosen by the server"
              error={at("l1Lambda")}
            />
          )}
          <NumberField
            label="Epochs"
            value={epochs}
            onChange={setEpochs}
            min={1}
            max={limits.maxEpochs}
            step={1}
            hint="Passes over the run's tokens."
            error={at("epochs")}
          />
          <TextField
            label="Name"
            value={name}
            onChange={setName}
            placeholder="The server makes one"
            error={at("name")}
          />
        </div>
        <details className={styles.more}>
          <summary>More options</summary>
          <div className={styles.fields}>
            <NumberField
              label="Tokens of a step"
              value={batchSize}
              onChange={setBatchSize}
              min={1}
              max={limits.maxTrainingBatchSize}
              step={1}
              error={at("batchSize")}
            />
            <NumberField
              label="Learning rate"
              value={learningRate}
              onChange={setLearningRate}
              min={0}
              placeholder="Chosen by the server"
              error={at("learningRate")}
            />
            <NumberField label="Seed" value={seed} onChange={setSeed} step={1} error={at("seed")} />
            <Select
              label="Device"
              value={device}
              options={devices.map((one) => ({ value: one, label: one }))}
              onChange={setDevice}
              error={at("device")}
            />
            <NumberField
              label="Leave out first positions"
              value={firstPositions}
              onChange={setFirstPositions}
              min={0}
              step={1}
              hint="Tokens at the start of each text."
              error={at("excludeFirstPositions")}
            />
            <NumberField
              label="Leave out outliers beyond"
              value={outliers}
              onChange={setOutliers}
              min={0}
              placeholder="None"
              hint="Times the median length, 10 say."
              error={at("excludeOutliers")}
            />
            <Checkbox label="Index the neurons afterwards" value={indexNeurons} onChange={setIndexNeurons} />
          </div>
        </details>
      </Card>
      <Card title="What the server would choose, and the cost">
        {inputs.length > MAX_SWEEP ? (
          <p role="alert">
            These are {inputs.length} trainings; at most {MAX_SWEEP} can be launched from here at once.
          </p>
        ) : (
          isSensible && <Costs validated={validated} />
        )}
        {launches.problem && <ErrorBox problem={launches.problem} />}
        {launches.problem && launches.done > 0 && (
          <p>
            {launches.done} of {inputs.length} have been launched. Trying again launches the others only.
          </p>
        )}
        <div>
          <button
            type="submit"
            className="primary"
            disabled={!isSensible || launches.running || (validated !== null && validated.problem !== null)}
          >
            {inputs.length === 1 ? "Train" : `Train ${inputs.length} SAEs`}
          </button>
        </div>
      </Card>
    </form>
  );
}
