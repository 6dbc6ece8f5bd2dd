import { CombinedError } from "urql";

/** What went wrong, as it is shown: the API's own sentences under a title. */
export interface Problem {
  title: string;
  message: string;
  /** Which inputs are wrong and why, with the input's path joined by dots. */
  fields: { path: string; message: string }[];
  /** Seconds after which another try makes sense. */
  retryAfter: number | null;
}

interface Refusal {
  __typename: string;
  message: string;
  fields?: { path: string[]; message: string }[];
  retryAfterSeconds?: number;
}

const REFUSALS = {
  InvalidInput: "This cannot be done as given",
  NotFound: "Not found",
  Conflict: "In conflict with what is there",
  QueueFull: "The server is busy",
} as const;

export type RefusalTypename = keyof typeof REFUSALS;

/** What is left of a result's union without its refusals. */
export type Success<Result> = Exclude<Result, { __typename: RefusalTypename }>;

const CODES: Record<string, string> = {
  UNAUTHENTICATED: "Signed out",
  FORBIDDEN: "Not allowed",
  BUSY: "The server is busy",
  TOO_COMPLEX: "Too much at once",
  NOT_FOUND: "Not found",
  INVALID_INPUT: "This cannot be asked as given",
};

function isRefusal(result: { __typename: string }): result is Refusal {
  return result.__typename in REFUSALS;
}

/** Returns the problem of a mutation's (or query's) union result; null where it went well. */
export function refusalOf(result: { __typename: string }): Problem | null {
  if (!isRefusal(result)) return null;
  return {
    title: REFUSALS[result.__typename as RefusalTypename],
    message: result.message,
    fields: (result.fields ?? []).map(({ path, message }) => ({ path: path.join("."), message })),
    retryAfter: result.retryAfterSeconds ?? null,
  };
}

/** Returns what is wrong at an input's path or below it, to show beside its field. */
export function messageAt(problem: Problem | null, path: string): string | undefined {
  const found = problem?.fields.filter((field) => field.path === path || field.path.startsWith(`${path}.`));
  return found?.map(({ message }) => message).join(" ") || undefined;
}

/** Returns the problem behind an error of the network or of GraphQL. */
export function problemOf(error: CombinedError): Problem {
  const [first] = error.graphQLErrors;
  if (first) {
    const { code, retryAfterSeconds } = first.extensions;
    return {
      title: CODES[String(code)] ?? "The server failed",
      message: first.message,
      fields: first.path ? [{ path: first.path.join("."), message: "" }] : [],
      retryAfter: typeof retryAfterSeconds === "number" ? retryAfterSeconds : null,
    };
  }
  const status = (error.response as Response | undefined)?.status;
  return {
    title: status === 401 ? "Signed out" : "The server cannot be reached",
    message:
      status === 401
        ? "Load this page again to sign in."
        : (error.networkError?.message ?? "No answer came. It is asked again when the connection is back."),
    fields: [],
    retryAfter: null,
  };
}

export const CUT_OFF: Problem = {
  title: "The connection was lost",
  message: "What was under way has stopped. Start it again when the connection is back.",
  fields: [],
  retryAfter: null,
};

/** Returns the problem of a subscription: GraphQL errors, or why the connection was closed. */
export function problemOfSubscription(error: unknown): Problem {
  if (Array.isArray(error)) return problemOf(new CombinedError({ graphQLErrors: error }));
  const reason = typeof error === "object" && error !== null && "reason" in error ? String(error.reason) : "";
  return { ...CUT_OFF, message: reason || CUT_OFF.message };
}
