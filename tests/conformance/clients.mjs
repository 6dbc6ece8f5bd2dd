// Uses a server through a protocol's reference client, and prints as JSON what came of it.
// Usage: node clients.mjs graphql-ws|graphql-sse SCENARIO URL VARIABLES [TOKEN]
import { createClient as createStreamClient } from "graphql-sse";
import { createClient as createSocketClient } from "graphql-ws";
import WebSocket from "ws";

const LAUNCH = `mutation ($input: CaptureActivationsInput!) {
  captureActivations(input: $input) { __typename ... on JobLaunched { job { id } } ... on Error { message } } }`;
const FOLLOW = `subscription ($id: ID!, $after: Int!) {
  jobProgress(id: $id, after: $after) { sequence ... on JobStatusChanged { status } } }`;
const JOB = "query ($id: ID!) { job(id: $id) { status lastSequence } }";
const CANCEL = "mutation ($id: ID!) { cancelJob(id: $id) { __typename } }";
const SERVER = "{ server { version } }";

const EVENTS_TO_A_CUT = 3;
const CUTS = 3;
const EARLY_ENDS = 5;

const scenarios = { operations, cutOff, endEarly, askServer };
const [protocol, scenario, url, variables, token] = process.argv.slice(2);
const connect = { "graphql-ws": openSocket, "graphql-sse": openStreams }[protocol];
console.log(JSON.stringify(await scenarios[scenario](JSON.parse(variables))));

/** A mutation that launches a job, a subscription that follows it, and a query for how it stands then. */
async function operations({ input }) {
  const { client, close } = connect();
  const id = await launch(client, input);
  const events = await all(client, FOLLOW, { id, after: 0 });
  const [job] = await all(client, JOB, { id });
  close();
  return { events: events.map((result) => result.data.jobProgress), job: job.data.job };
}

/** Follows a job over connections that are cut off after a few events, and goes on behind the last one seen. */
async function cutOff({ input }) {
  const first = connect();
  const id = await launch(first.client, input);
  first.close();
  const connections = [];
  let after = 0;
  let broken;
  do {
    const { client, cut, close } = connect();
    const seen = [];
    broken = false;
    try {
      for await (const result of client.iterate({ query: FOLLOW, variables: { id, after } })) {
        seen.push(result.data.jobProgress);
        after = seen.at(-1).sequence;
        if (seen.length === EVENTS_TO_A_CUT && connections.length < CUTS) cut();
      }
    } catch {
      broken = true;
    }
    connections.push({ broken, events: seen });
    close();
  } while (broken && connections.length <= CUTS);
  const last = connect();
  const [job] = await all(last.client, JOB, { id });
  last.close();
  return { connections, job: job.data.job };
}

/** Ends a subscription after its first event, time and again, and then asks something else. */
async function endEarly({ input }) {
  const { client, close, opened } = connect();
  const id = await launch(client, input);
  const firstEvents = [];
  for (let round = 0; round < EARLY_ENDS; round += 1) {
    for await (const result of client.iterate({ query: FOLLOW, variables: { id, after: 0 } })) {
      firstEvents.push(result.data?.jobProgress ?? result);
      break;
    }
  }
  const [server] = await all(client, SERVER);
  const [canceled] = await all(client, CANCEL, { id });
  close();
  return { firstEvents, server, canceled, sockets: opened() };
}

/** Asks one thing, or tells how it was refused. */
async function askServer() {
  const { client, close } = connect();
  try {
    return { answer: (await all(client, SERVER))[0] };
  } catch (error) {
    return { refused: error.code ?? error.response?.status ?? String(error) };
  } finally {
    close();
  }
}

async function launch(client, input) {
  const [result] = await all(client, LAUNCH, { input });
  const launched = result.data?.captureActivations;
  if (launched?.__typename !== "JobLaunched") throw new Error(JSON.stringify(result));
  return launched.job.id;
}

async function all(client, query, variables) {
  const results = [];
  for await (const result of client.iterate({ query, variables })) results.push(result);
  return results;
}

/** Opens a socket for all operations. */
function openSocket() {
  const sockets = [];
  const client = createSocketClient({
    url: url.replace("http", "ws"),
    webSocketImpl: WebSocket,
    connectionParams: token ? { Authorization: `Bearer ${token}` } : undefined,
    lazy: false,
    retryAttempts: 0,
    onNonLazyError: () => {}, // The operation's iterator throws it too.
    on: { opened: (socket) => sockets.push(socket) },
  });
  const cut = () => sockets.at(-1).terminate(); // Resets the connection, without a close frame.
  return { client, cut, close: () => client.dispose(), opened: () => sockets.length };
}

/** Makes a client with a connection for each operation, as the protocol's distinct-connections mode has it. */
function openStreams() {
  const connection = new AbortController();
  let requests = 0;
  const client = createStreamClient({
    url,
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    retryAttempts: 0,
    fetchFn: (input, init) => {
      requests += 1;
      return fetch(input, { ...init, signal: AbortSignal.any([init.signal, connection.signal]) });
    },
  });
  return { client, cut: () => connection.abort(), close: () => client.dispose(), opened: () => requests };
}
