import { type Problem, refusalOf } from "../../api/problems";
import type { Token } from "../../components/tokenPieces";
import type { FinishReason, GenerationVariant } from "../../generated/types";
import type { PlayPageSubscription } from "./PlayPage.generated";

type Event = PlayPageSubscription["generation"];
export type OutputToken = Extract<Event, { __typename: "GenerationToken" }>["token"];
type FinishedOutput = Extract<Event, { __typename: "GenerationFinished" }>["output"];

export interface Output {
  tokens: readonly OutputToken[];
  /** Null while it is being written, and where it was stopped before its end. */
  finishReason: FinishReason | null;
  /** Activations on each token of the prompt, then of the output; once it is finished. */
  watched: FinishedOutput["watched"] | null;
  topNeurons: FinishedOutput["topNeurons"];
}

export interface RunState {
  status: "asked" | "queued" | "generating" | "finished" | "stopped" | "failed";
  /** Requests before it, when it was queued. */
  position: number;
  /** Whether the language model had to be loaded first. */
  loading: boolean;
  /** The one that was asked for or drawn, once the run has begun. */
  seed: number | null;
  promptTokens: readonly Token[];
  outputs: Partial<Record<GenerationVariant, Output>>;
  problem: Problem | null;
}

export const ASKED: RunState = {
  status: "asked",
  position: 0,
  loading: false,
  seed: null,
  promptTokens: [],
  outputs: {},
  problem: null,
};

const NO_OUTPUT: Output = { tokens: [], finishReason: null, watched: null, topNeurons: [] };

export function isUnderWay({ status }: RunState): boolean {
  return status === "asked" || status === "queued" || status === "generating";
}

/** Returns the run after an event of its subscription. */
export function afterEvent(run: RunState, event: Event): RunState {
  switch (event.__typename) {
    case "GenerationQueued":
      return { ...run, status: "queued", position: event.position, loading: event.loading };
    case "GenerationStarted":
      return {
        ...run,
        status: "generating",
        seed: event.seed,
        promptTokens: event.promptTokens[0] ?? [],
      };
    case "GenerationToken": {
      const before = run.outputs[event.variant] ?? NO_OUTPUT;
      const output = { ...before, tokens: [...before.tokens, event.token] };
      return { ...run, outputs: { ...run.outputs, [event.variant]: output } };
    }
    case "GenerationFinished": {
      const { variant, finishReason, watched, topNeurons } = event.output;
      const before = run.outputs[variant] ?? NO_OUTPUT;
      const output = { ...before, finishReason, watched, topNeurons };
      return { ...run, outputs: { ...run.outputs, [variant]: output } };
    }
    default:
      return { ...run, status: "failed", problem: refusalOf(event) };
  }
}

/** Returns the run after its subscription has ended: where it was neither refused nor stopped, it is complete. */
export function afterEnd(run: RunState): RunState {
  return isUnderWay(run) ? { ...run, status: "finished" } : run;
}

export function afterStop(run: RunState): RunState {
  return isUnderWay(run) ? { ...run, status: "stopped" } : run;
}

export function afterFailure(run: RunState, problem: Problem): RunState {
  return { ...run, status: "failed", problem };
}

/**
 * Returns a watched neuron's activation on each token of an output, as far as it is known.
 *
 * While an output is written, a token comes with the activations at the position before it, whose logits it came
 * from: those on itself come with the next one.
 */
export function activationsOn(run: RunState, variant: GenerationVariant, place: number): number[] {
  const output = run.outputs[variant];
  if (!output || place < 0) return [];
  if (output.watched) {
    return output.watched.slice(run.promptTokens.length).map((values) => values[place] ?? 0);
  }
  return output.tokens.slice(1).map(({ watched }) => watched[place] ?? 0);
}

/** Returns how surprised the model was of each token, in nats. */
export function surprises(output: Output): number[] {
  return output.tokens.map(({ logProbability }) => -logProbability);
}

/** Returns the first token in which two outputs differ; null as long as they do not. */
export function divergence(a: Output | undefined, b: Output | undefined): number | null {
  if (!a || !b) return null;
  const length = Math.min(a.tokens.length, b.tokens.length);
  for (let index = 0; index < length; index++) {
    if (a.tokens[index]?.tokenId !== b.tokens[index]?.tokenId) return index;
  }
  const isComplete = a.finishReason !== null && b.finishReason !== null;
  return isComplete && a.tokens.length !== b.tokens.length ? length : null;
}

/** Returns the text that an output's token follows: the prompt and what was written before it. */
export function textBefore(prompt: string, output: Output, index: number): string {
  return (
    prompt +
    output.tokens
      .slice(0, index)
      .map(({ text }) => text)
      .join("")
  );
}
