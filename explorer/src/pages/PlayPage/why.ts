import type { TokenInput } from "../../generated/types";
import type { Output, OutputToken } from "./generationRun";
import { textBefore } from "./generationRun";

/** A token to explain, and the text that it follows. */
export interface WhyAsked {
  prompt: string;
  chat: boolean;
  /** Null for the model's most probable one. */
  target: TokenInput | null;
  contrast: TokenInput | null;
  /** Which token that is, in words. */
  place: string;
}

/** Returns the question why a model wrote a token of its output, rather than another one. */
export function whyToken(
  run: { prompt: string; chat: boolean },
  output: Output,
  token: OutputToken,
  variant: string,
  contrast: { tokenId: number } | null,
): WhyAsked {
  return {
    prompt: textBefore(run.prompt, output, token.index),
    chat: run.chat,
    target: { tokenId: token.tokenId },
    contrast: contrast && { tokenId: contrast.tokenId },
    place: `token ${token.index + 1} of the ${variant} text`,
  };
}

/** Returns the question about the token that follows a prompt. */
export function whyEnd(prompt: string, chat: boolean, target: string, contrast: string): WhyAsked {
  return {
    prompt,
    chat,
    target: target === "" ? null : { text: target },
    contrast: contrast === "" ? null : { text: contrast },
    place: "the token after the prompt",
  };
}
