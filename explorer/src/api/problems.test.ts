import { CombinedError } from "urql";
import { expect, test } from "vitest";
import { messageAt, problemOf, refusalOf } from "./problems";

test("an answer that is no refusal is no problem", () => {
  expect(refusalOf({ __typename: "JobLaunched" })).toBeNull();
});

test("wrong inputs are told with their paths", () => {
  const refused = {
    __typename: "InvalidInput",
    message: "1 field is wrong.",
    fields: [{ path: ["input", "k"], message: "k is at most 64." }],
  };
  expect(refusalOf(refused)).toEqual({
    title: "This cannot be done as given",
    message: "1 field is wrong.",
    fields: [{ path: "input.k", message: "k is at most 64." }],
    retryAfter: null,
  });
});

test("a full queue says when to try again", () => {
  const refused = { __typename: "QueueFull", message: "100 jobs wait.", retryAfterSeconds: 30 };
  expect(refusalOf(refused)?.retryAfter).toBe(30);
});

test("an error of GraphQL keeps the server's words, its path and its time", () => {
  const error = new CombinedError({
    graphQLErrors: [
      { message: "Too many.", path: ["sae", "neurons"], extensions: { code: "BUSY", retryAfterSeconds: 3 } },
    ],
  });
  expect(problemOf(error)).toEqual({
    title: "The server is busy",
    message: "Too many.",
    fields: [{ path: "sae.neurons", message: "" }],
    retryAfter: 3,
  });
});

test("a network that fails and a session that has ended are told apart", () => {
  const offline = problemOf(new CombinedError({ networkError: new Error("Failed to fetch") }));
  expect(offline.title).toBe("The server cannot be reached");
  const response = { status: 401 };
  const signedOut = new CombinedError({ networkError: new Error("Unauthorized"), response });
  expect(problemOf(signedOut).title).toBe("Signed out");
});

test("what is wrong stands beside its field, and beside the field around it", () => {
  const problem = refusalOf({
    __typename: "InvalidInput",
    message: "2 fields are wrong.",
    fields: [
      { path: ["dataset", "file", "path"], message: "It is not there." },
      { path: ["k"], message: "k is at most 64." },
    ],
  } as { __typename: string });
  expect(messageAt(problem, "k")).toBe("k is at most 64.");
  expect(messageAt(problem, "dataset")).toBe("It is not there.");
  expect(messageAt(problem, "data")).toBeUndefined();
  expect(messageAt(null, "k")).toBeUndefined();
});
