import { createClient, fetchExchange } from "urql";
import { graphqlUrl } from "./endpoint";
import { createInvalidation, queryCache } from "./invalidation";

const invalidation = createInvalidation();

/** Asks the queries on the page again whose results changes of these kinds concern. */
export const invalidate = invalidation.invalidate;

/** Queries and mutations, by the session's cookie. Subscriptions go over `socket`. */
export const client = createClient({
  url: graphqlUrl,
  exchanges: [invalidation.exchange, queryCache, fetchExchange],
  preferGetMethod: false,
  // What is cached is shown at once; what has changed since then, a moment later.
  requestPolicy: "cache-and-network",
});
