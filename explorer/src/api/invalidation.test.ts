import { Client, type Exchange, gql, type Operation } from "urql";
import { expect, test, vi } from "vitest";
import { filter, map, pipe } from "wonka";
import { createInvalidation, kindsIn, queryCache, typenamesIn } from "./invalidation";

const NAMES = gql("{ names { concept { id } } }");
const JOBS = gql("{ jobs { id } }");
const NUMBERS = gql("{ numbers { neuron { index } } }");
const RENAME = gql("mutation { rename { concept { id } } }");

const ANSWERS: Record<string, unknown> = {
  names: { __typename: "Neuron", concept: null },
  jobs: { __typename: "Job", id: "job_1" },
  numbers: { __typename: "Row", neuron: { __typename: "Neuron", index: 1 } },
  rename: { __typename: "ConceptSet", concept: { __typename: "Concept", id: "concept_1" } },
};

/** A client whose server answers at once, and what the server was asked. */
function asking() {
  const asked: string[] = [];
  const answer: Exchange = () => (operations) =>
    pipe(
      operations,
      filter(({ kind }) => kind !== "teardown"),
      map((operation: Operation) => {
        const [field = ""] =
          /\w+(?= \{|\{)/.exec(operation.query.loc?.source.body.replace(/^mutation/, "") ?? "") ?? [];
        asked.push(field);
        return { operation, data: { [field]: ANSWERS[field] }, stale: false, hasNext: false };
      }),
    );
  const { exchange, invalidate } = createInvalidation();
  const client = new Client({
    url: "/graphql",
    exchanges: [exchange, queryCache, answer],
    preferGetMethod: false,
    requestPolicy: "cache-and-network",
  });
  const show = (query: ReturnType<typeof gql>, requestPolicy?: "cache-first") =>
    client.query(query, {}, requestPolicy && { requestPolicy }).subscribe(() => {});
  return { asked, client, invalidate, show };
}

test("a mutation asks what shows its kinds again, and nothing else", async () => {
  const { asked, client, show } = asking();
  show(NAMES);
  show(JOBS);
  show(NUMBERS);
  await client.mutation(RENAME, {});
  expect(asked).toEqual(["names", "jobs", "numbers", "rename", "names"]);
});

test("what runs a model is not asked again while it is shown, and afterward only where it shows what changed", async () => {
  const { asked, client, show } = asking();
  const shown = [show(NAMES, "cache-first"), show(NUMBERS, "cache-first")];
  await client.mutation(RENAME, {});
  expect(asked).toEqual(["names", "numbers", "rename"]);
  for (const { unsubscribe } of shown) unsubscribe();
  const again = [show(NAMES, "cache-first"), show(NUMBERS, "cache-first")];
  expect(asked).toEqual(["names", "numbers", "rename", "names"]);
  for (const { unsubscribe } of again) unsubscribe();
  show(NAMES, "cache-first");
  expect(asked).toHaveLength(4);
});

test("changes that others make count as those of one's own", async () => {
  const { asked, invalidate, show } = asking();
  show(NAMES);
  show(JOBS);
  invalidate(new Set(["JOB"]));
  await vi.waitFor(() => expect(asked).toEqual(["names", "jobs", "jobs"]));
});

test("a neuron without a name is shown as one, a neuron of which no name is asked for is not", () => {
  expect(typenamesIn({ neuron: { __typename: "Neuron", concept: null } })).toContain("Concept");
  expect(typenamesIn({ neuron: { __typename: "Neuron", index: 1 } })).toEqual(new Set(["Neuron"]));
});

test("a launch concerns jobs and what they make", () => {
  const job = { __typename: "Job", result: { __typename: "Sae", id: "sae_1" } };
  expect(kindsIn({ trainSae: { __typename: "JobLaunched", job } })).toEqual(new Set(["SAE", "JOB"]));
});
