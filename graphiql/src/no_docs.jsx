// What stands in the place of the documentation where the server does not tell its schema.
import { DocsIcon } from "@graphiql/react";

export const NO_DOCS = {
  title: "Documentation Explorer",
  icon: DocsIcon,
  content: () => (
    <section aria-label="Documentation Explorer">
      <h2 className="graphiql-doc-explorer-title">Docs</h2>
      <p>
        This server does not tell its schema (<code>GQL_SERVER_INTROSPECTION=false</code>), so there are neither docs
        nor completions.
      </p>
      <p>
        Queries, mutations and subscriptions run as ever; <code>schema.graphql</code> in gql-server&apos;s repository
        describes them.
      </p>
    </section>
  ),
};
