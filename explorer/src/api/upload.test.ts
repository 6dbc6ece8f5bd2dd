// @vitest-environment node
import { expect, test, vi } from "vitest";

vi.mock("./endpoint", () => ({ graphqlUrl: "/graphql" }));
const { multipart, problemOfStatus } = await import("./upload");

test("a file is named where it belongs, and stands there as null", () => {
  const file = new File(["one"], "texts.txt");
  const body = multipart(
    "mutation { x }",
    { input: { textField: "text" }, name: "mine" },
    "input.file",
    file,
  );
  expect(JSON.parse(String(body.get("operations")))).toEqual({
    query: "mutation { x }",
    variables: { input: { textField: "text", file: null }, name: "mine" },
  });
  expect(JSON.parse(String(body.get("map")))).toEqual({ "0": ["variables.input.file"] });
  expect((body.get("0") as File).name).toBe("texts.txt");
});

test("a file may belong into what is not there yet", () => {
  const body = multipart("query { x }", {}, "dataset.upload.file", new File([], "a.csv"));
  expect(JSON.parse(String(body.get("operations"))).variables).toEqual({
    dataset: { upload: { file: null } },
  });
});

test("a refused upload says so in the server's words", () => {
  expect(problemOfStatus(413, "At most 10 bytes.")).toMatchObject({
    title: "The file is too large",
    message: "At most 10 bytes.",
  });
  expect(problemOfStatus(0, "").title).toBe("The server cannot be reached");
  expect(problemOfStatus(502, "").message).toBe("It answered with status 502.");
});
