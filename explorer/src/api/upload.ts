import type { TypedDocumentNode } from "@graphql-typed-document-node/core";
import { useCallback, useEffect, useRef, useState } from "react";
import { stringifyDocument } from "urql";
import { graphqlUrl } from "./endpoint";
import { type Problem, refusalOf, type Success } from "./problems";

/** Returns the parts of a GraphQL multipart request; `path` is where the file belongs, such as input.file. */
export function multipart(query: string, variables: object, path: string, file: File): FormData {
  const body = new FormData();
  body.append("operations", JSON.stringify({ query, variables: withNull(variables, path.split(".")) }));
  body.append("map", JSON.stringify({ 0: [`variables.${path}`] }));
  body.append("0", file, file.name);
  return body;
}

function withNull(value: object, [first, ...rest]: string[]): object {
  if (first === undefined) return value;
  const below = (value as Record<string, object | undefined>)[first] ?? {};
  return { ...value, [first]: rest.length > 0 ? withNull(below, rest) : null };
}

/** Returns the problem of an upload that no GraphQL answer came to. */
export function problemOfStatus(status: number, text: string): Problem {
  const none = { fields: [], retryAfter: null };
  if (status === 401) return { ...none, title: "Signed out", message: "Load this page again to sign in." };
  if (status === 413)
    return { ...none, title: "The file is too large", message: text || "The server takes no more at once." };
  if (status === 0)
    return { ...none, title: "The server cannot be reached", message: "The upload broke off. Try it again." };
  return { ...none, title: "The server failed", message: text || `It answered with status ${status}.` };
}

type Result<Data> = Data[keyof Data] & { __typename: string };

interface GraphqlAnswer<Data> {
  data?: Data | null;
  errors?: { message: string }[];
}

export interface Upload<Data, Variables> {
  /** Sends a file; resolves to what came of it, null where it was refused or stopped, and `problem` says why. */
  run: (variables: Variables, file: File) => Promise<Success<Result<Data>> | null>;
  /** Share that has been sent, 0 to 1; null while nothing is under way. At 1 the server works on it. */
  sent: number | null;
  problem: Problem | null;
  /** Ends what is under way, and forgets the problem. */
  clear: () => void;
}

/** An operation of one field whose result is a union, with a file; fetch tells no progress of what it sends. */
export function useUpload<Data extends object, Variables extends object>(
  document: TypedDocumentNode<Data, Variables>,
  path: string,
): Upload<Data, Variables> {
  const [sent, setSent] = useState<number | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const request = useRef<XMLHttpRequest>(null);
  useEffect(() => () => request.current?.abort(), []);

  const run = useCallback(
    async (variables: Variables, file: File) => {
      request.current?.abort();
      const own = new XMLHttpRequest();
      request.current = own;
      setSent(0);
      setProblem(null);
      const body = multipart(stringifyDocument(document), variables, path, file);
      const isDone = await send(own, body, (fraction) => request.current === own && setSent(fraction));
      if (request.current !== own) return null;
      request.current = null;
      setSent(null);
      if (!isDone) return null;
      const { result, problem: found } = read<Data>(own);
      setProblem(found);
      return result;
    },
    [document, path],
  );
  const clear = useCallback(() => {
    request.current?.abort();
    request.current = null;
    setSent(null);
    setProblem(null);
  }, []);
  return { run, sent, problem, clear };
}

/** Resolves to whether the request ended by itself. */
function send(request: XMLHttpRequest, body: FormData, onSent: (fraction: number) => void): Promise<boolean> {
  return new Promise((resolve) => {
    request.open("POST", graphqlUrl);
    request.setRequestHeader("GraphQL-Require-Preflight", "1");
    request.setRequestHeader("Accept", "application/json");
    request.upload.onprogress = ({ loaded, total }) => onSent(total > 0 ? loaded / total : 0);
    request.upload.onload = () => onSent(1);
    request.onload = () => resolve(true);
    request.onerror = () => resolve(true);
    request.onabort = () => resolve(false);
    request.send(body);
  });
}

function read<Data extends object>(
  request: XMLHttpRequest,
): { result: Success<Result<Data>> | null; problem: Problem | null } {
  let answer: GraphqlAnswer<Data> = {};
  try {
    answer = JSON.parse(request.responseText) as GraphqlAnswer<Data>;
  } catch {
    // A proxy, or the server's own limit, answers in plain text.
  }
  const [first] = answer.errors ?? [];
  if (!answer.data) {
    const text = first?.message ?? request.responseText.slice(0, 300);
    return { result: null, problem: problemOfStatus(request.status, text) };
  }
  const result = Object.values(answer.data)[0] as Result<Data>;
  const problem = refusalOf(result);
  return { result: problem ? null : (result as Success<Result<Data>>), problem };
}
