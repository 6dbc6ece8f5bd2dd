import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { type Client, createClient } from "graphql-ws";
import { stringifyDocument } from "urql";
import { socketUrl } from "./endpoint";
import { lasting } from "./lasting";
import { CUT_OFF, type Problem, problemOfSubscription } from "./problems";
import { createStore } from "./store";

export type ConnectionState = "connecting" | "connected" | "reconnecting" | "signedOut";

export interface Connection {
  state: ConnectionState;
  /** Counts connections: what a subscription sent first is sent anew after each. */
  epoch: number;
}

export const connection = createStore<Connection>({ state: "connecting", epoch: 0 });

const PING_EVERY_MS = 10_000;
const PONG_WITHIN_MS = 5_000;
const LONGEST_WAIT_MS = 5_000;
/** Close codes of graphql-transport-ws for connections without a valid session. */
const SIGNED_OUT_CODES: readonly unknown[] = [4401, 4403];

function codeOf(event: unknown): unknown {
  return typeof event === "object" && event !== null && "code" in event ? event.code : undefined;
}

function closed(event: unknown): void {
  clearTimeout(silence);
  const state = SIGNED_OUT_CODES.includes(codeOf(event)) ? "signedOut" : "reconnecting";
  connection.set({ ...connection.get(), state });
}

let silence: ReturnType<typeof setTimeout> | undefined;

/** The one WebSocket of the page. It reconnects for as long as the page is open, and sends subscriptions anew. */
export const socket: Client = createClient({
  url: socketUrl,
  keepAlive: PING_EVERY_MS,
  retryAttempts: Number.POSITIVE_INFINITY,
  retryWait: async (retries) => {
    const wait = Math.min(LONGEST_WAIT_MS, 200 * 2 ** Math.min(retries, 10));
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
  },
  shouldRetry: (event) => !SIGNED_OUT_CODES.includes(codeOf(event)),
  on: {
    connected: () => connection.set({ state: "connected", epoch: connection.get().epoch + 1 }),
    closed,
    error: closed,
    // A connection that has died without a close is noticed by the missing answer.
    ping: (received) => {
      if (!received) silence = setTimeout(() => socket.terminate(), PONG_WITHIN_MS);
    },
    pong: (received) => {
      if (received) clearTimeout(silence);
    },
  },
});

export interface Sink<Data> {
  next: (data: Data) => void;
  error?: (problem: Problem, cause?: unknown) => void;
  complete?: () => void;
}

/** Subscribes with variables that are read anew at each connection: a cursor goes on from where it is by then. */
export type Subscribe<Data, Variables> = (variables: () => Variables, sink: Sink<Data>) => () => void;

export function subscriber<Data, Variables>(
  document: TypedDocumentNode<Data, Variables>,
): Subscribe<Data, Variables> {
  const once = untilAnError(document);
  return (variables, sink) =>
    lasting<Problem>(
      (end) => once(variables, { ...sink, error: (problem, cause) => end(problem, isOfSocket(cause)) }),
      {
        waitMs: LONGEST_WAIT_MS,
        onError: (problem) => sink.error?.(problem),
      },
    );
}

/** Whether what ended a subscription is a close that graphql-ws takes for good, and not the operation's own errors. */
function isOfSocket(cause: unknown): boolean {
  return !Array.isArray(cause) && !SIGNED_OUT_CODES.includes(codeOf(cause));
}

function untilAnError<Data, Variables>(
  document: TypedDocumentNode<Data, Variables>,
): Subscribe<Data, Variables> {
  const query = stringifyDocument(document);
  return (variables, sink) => {
    const payload = {
      query,
      // graphql-ws writes the payload as JSON each time that it subscribes.
      get variables() {
        return variables() as Record<string, unknown>;
      },
    };
    const fail = (error: unknown) => sink.error?.(problemOfSubscription(error), error);
    return socket.subscribe<Data>(payload, {
      next: ({ data, errors }) => {
        if (errors?.length) fail(errors);
        else if (data) sink.next(data);
      },
      error: fail,
      complete: () => sink.complete?.(),
    });
  };
}

/** As subscriber, for what must not begin anew by itself (a generation): it ends where the connection does. */
export function onceSubscriber<Data, Variables>(
  document: TypedDocumentNode<Data, Variables>,
): Subscribe<Data, Variables> {
  const subscribe = untilAnError(document);
  return (variables, sink) => {
    const stop = () => {
      end();
      unwatch();
    };
    const end = subscribe(variables, {
      ...sink,
      complete: () => {
        unwatch();
        sink.complete?.();
      },
    });
    const unwatch = socket.on("closed", () => {
      stop();
      sink.error?.(CUT_OFF);
    });
    return stop;
  };
}
