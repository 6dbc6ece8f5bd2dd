import { useRef } from "react";

/** Returns what gives a launch its key: the same for as long as the input is, so that a retry launches nothing twice. */
export function launchKeys(random: () => string): (input: unknown) => string {
  let [last, key] = ["", ""];
  return (input) => {
    const text = JSON.stringify(input);
    if (text !== last) [last, key] = [text, random()];
    return key;
  };
}

/** Keys of what a form launches, while it is shown; one that was launched is launched anew by the form's next page. */
export function useLaunchKey(): (input: unknown) => string {
  const keys = useRef<ReturnType<typeof launchKeys> | null>(null);
  keys.current ??= launchKeys(randomKey);
  return keys.current;
}

/** As crypto.randomUUID, which pages without HTTPS do not have. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
