import { useState } from "react";
import { NumberField, TextArea } from "../../components/controls";
import styles from "./PlayPage.module.css";
import { type PlaySettings, stopsOf, stopText } from "./settings";
import type { Change } from "./usePlaySettings";

interface SamplingFieldsProps {
  settings: PlaySettings;
  change: Change;
  maxNewTokens: number | undefined;
  /** What the API says about an argument. */
  errorAt: (name: string) => string | undefined;
}

/** How the next token is chosen, and when to end. */
export function SamplingFields({ settings, change, maxNewTokens, errorAt }: SamplingFieldsProps) {
  const set = (part: Partial<PlaySettings>) => change((before) => ({ ...before, ...part }));
  return (
    <div className={styles.fields}>
      <NumberField
        label="Temperature"
        hint="0 takes the most probable token."
        min={0}
        step={0.1}
        value={settings.temperature}
        onChange={(temperature) => set({ temperature })}
        error={errorAt("temperature")}
      />
      <NumberField
        label="Top-p"
        min={0}
        max={1}
        step={0.05}
        placeholder="1"
        value={settings.topP}
        onChange={(topP) => set({ topP })}
        error={errorAt("topP")}
      />
      <NumberField
        label="Top-k"
        hint="Drawn from so many tokens."
        min={1}
        step={1}
        placeholder="all"
        value={settings.topK}
        onChange={(topK) => set({ topK })}
        error={errorAt("topK")}
      />
      <NumberField
        label="Repetition penalty"
        hint="Above 1 repeats less."
        min={0}
        step={0.05}
        placeholder="1"
        value={settings.repetitionPenalty}
        onChange={(repetitionPenalty) => set({ repetitionPenalty })}
        error={errorAt("repetitionPenalty")}
      />
      <NumberField
        label="Seed"
        hint="Drawn if left out; both texts have the same."
        step={1}
        placeholder="drawn"
        value={settings.seed}
        onChange={(seed) => set({ seed })}
        error={errorAt("seed")}
      />
      <NumberField
        label="Tokens at most"
        hint={maxNewTokens === undefined ? undefined : `Up to ${maxNewTokens}.`}
        min={1}
        {...(maxNewTokens !== undefined && { max: maxNewTokens })}
        step={1}
        value={settings.maxNewTokens}
        onChange={(value) => set({ maxNewTokens: value })}
        error={errorAt("maxNewTokens")}
      />
      <StopField stops={settings.stop} onChange={(stop) => set({ stop })} error={errorAt("stop")} />
    </div>
  );
}

interface StopFieldProps {
  stops: readonly string[];
  onChange: (stops: readonly string[]) => void;
  error: string | undefined;
}

function StopField({ stops, onChange, error }: StopFieldProps) {
  const [text, setText] = useState(stopText(stops));
  // Half-written text is the field's own; what comes from elsewhere, such as a link, replaces it.
  const isSame = stopText(stopsOf(text)) === stopText(stops);
  return (
    <TextArea
      label="Stop at"
      hint="One text a line; \n is a line break."
      rows={1}
      value={isSame ? text : stopText(stops)}
      onChange={(value) => {
        setText(value);
        onChange(stopsOf(value));
      }}
      error={error}
    />
  );
}
